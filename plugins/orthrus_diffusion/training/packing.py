"""Texts packed into rows of one length, and the anchors of a row; the same seed and step give the same rows."""

from __future__ import annotations

import bisect
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from orthrus import InputError, PackedRows
from orthrus_diffusion.training.shards import Text

WINDOW = 4096  # texts that are packed together


@dataclass(frozen=True, eq=False)
class Batch:
    """Packed rows [R, L] with anchors [R, N], and the column after the last of each token's text, ends [R, L].

    used [R, N]: 1 for an anchor in an answer, 0 for one that only fills up a row with too few of them.
    noise [R, L]: Gumbel noise by which anchors may be chosen otherwise; -inf where there must be none.
    """

    rows: PackedRows
    anchors: Tensor
    ends: Tensor
    used: Tensor
    noise: Tensor

    def to(self, device: torch.device) -> Batch:
        """Return the batch on a device."""
        rows = PackedRows(_to(self.rows.token_ids, device), _to(self.rows.starts, device))
        rest = (_to(tensor, device) for tensor in (self.anchors, self.ends, self.used, self.noise))
        return Batch(rows, *rest)

    def split(self, count: int) -> Iterator[Batch]:
        """Yield the batch, so many rows at a time."""
        for start in range(0, len(self.anchors), count):
            part = slice(start, start + count)
            rows = PackedRows(self.rows.token_ids[part], self.rows.starts[part])
            yield Batch(rows, self.anchors[part], self.ends[part], self.used[part], self.noise[part])


def _to(tensor: Tensor, device: torch.device) -> Tensor:
    return (tensor.pin_memory() if device.type == "cuda" else tensor).to(device, non_blocking=True)


class Packer:
    """Give the rows of each step: every text once an epoch, in an order of the seed; anchors anew every time."""

    def __init__(
        self, texts: Sequence[Text], length: int, anchors: int, rows: int, seed: int, longest: int | None = None
    ) -> None:
        """Take texts for steps of so many rows; raise InputError if no answer has two tokens to learn from.

        longest: tokens that the model can take; longer texts are cut, as at the length of a row.
        """
        most = length if longest is None else min(length, longest)
        cut = [Text(text.token_ids[:most], text.answer) for text in texts]
        self._texts = [text for text in cut if len(text) - text.answer >= 2]
        if not self._texts:
            within = "fit.row_tokens" if most == length else f"the model's context, {most}"
            raise InputError(f"the answers hold nothing to train on: none has two tokens within {within}")
        self._length, self._anchors, self._rows, self._seed = length, anchors, rows, seed
        self._epoch = -1
        self._packed: list[list[int]] = []
        self._next = 0

    def steps(self, first: int, part: slice = slice(None)) -> Iterator[Batch]:
        """Yield the batch of each step from the first on, without end; part: which of its rows."""
        for step, rows in enumerate(self._row_groups()):
            if step >= first:
                chooser = random.Random(f"{self._seed} anchors {step}")
                seeds = [chooser.getrandbits(64) for _ in rows]
                yield self._batch(rows[part], seeds[part])

    def _row_groups(self) -> Iterator[list[list[int]]]:
        """Yield the texts of each row, for so many rows a step; what is left of an epoch goes on into the next."""
        waiting: list[list[int]] = []
        epoch = 0
        while True:
            waiting += self._pack(epoch)
            epoch += 1
            while len(waiting) >= self._rows:
                yield waiting[: self._rows]
                waiting = waiting[self._rows :]

    def _pack(self, epoch: int) -> list[list[int]]:
        """Return the texts of every row of an epoch: longest first, each into the row that it fills best."""
        chooser = random.Random(f"{self._seed} order {epoch}")
        order = list(range(len(self._texts)))
        chooser.shuffle(order)
        packed: list[list[int]] = []
        for start in range(0, len(order), WINDOW):
            packed += self._fill(sorted(order[start : start + WINDOW], key=lambda index: -len(self._texts[index])))
        chooser.shuffle(packed)
        return packed

    def _fill(self, indices: Sequence[int]) -> list[list[int]]:
        rows: list[list[int]] = []
        room: list[tuple[int, int]] = []  # what is free, and of which row; sorted
        for index in indices:
            need = len(self._texts[index])
            fitting = bisect.bisect_left(room, (need, -1))
            if fitting == len(room):
                rows.append([index])
                bisect.insort(room, (self._length - need, len(rows) - 1))
            else:
                free, row = room.pop(fitting)
                rows[row].append(index)
                bisect.insort(room, (free - need, row))
        return rows

    def _batch(self, rows: Sequence[Sequence[int]], seeds: Sequence[int]) -> Batch:
        token_ids = torch.zeros(len(rows), self._length, dtype=torch.int64)
        starts = torch.arange(self._length).repeat(len(rows), 1)  # what is left free is a text of its own, every token
        ends = starts + 1
        anchors, used = [], []
        noise = torch.full((len(rows), self._length), float("-inf"))
        for index, (row, seed) in enumerate(zip(rows, seeds, strict=True)):
            column = 0
            answers: list[int] = []
            for text in (self._texts[number] for number in row):
                end = column + len(text)
                token_ids[index, column:end] = text.token_ids
                starts[index, column:end], ends[index, column:end] = column, end
                answers += range(column + text.answer, end - 1)  # an anchor has a token after it
                column = end
            chosen = sorted(random.Random(seed).sample(answers, min(self._anchors, len(answers))))
            spare = self._anchors - len(chosen)
            anchors.append(chosen + [chosen[-1]] * spare)
            used.append([1.0] * len(chosen) + [0.0] * spare)
            noise[index, answers] = _gumbel(len(answers), seed)
        return Batch(PackedRows(token_ids, starts), torch.tensor(anchors), ends, torch.tensor(used), noise)


def _gumbel(count: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed % 2**63)
    return -torch.empty(count).exponential_(generator=generator).log()
