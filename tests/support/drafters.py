"""Adversarial drafters: never right, always right, right by chance, empty, ragged."""

from __future__ import annotations

import random
from collections.abc import Sequence

import torch

from orthrus import Chance, Context, Draft, Step


class ScriptedDrafter:
    """Know each row's true continuation and propose as much of it, as rightly and as raggedly, as it is told.

    right: the probability that a proposed token is the true one. lengths: how many tokens it may propose, drawn anew
    for each row and cycle. Beyond the known continuation it proposes token 0.
    """

    needs: frozenset[str] = frozenset()
    learns = False

    def __init__(
        self, truths: Sequence[Sequence[int]], vocabulary_size: int, right: float, lengths: Sequence[int], seed: int = 0
    ) -> None:
        self._truths = truths
        self._vocabulary_size = vocabulary_size
        self._right = right
        self._lengths = lengths
        self._random = random.Random(seed)

    def start(self, context: Context, rows: Sequence[int]) -> None:
        self._context = context

    def propose(self, context: Context, chance: Chance) -> Draft:
        drafts = [self._row(index) for index in range(len(context.rows))]
        width = max(len(tokens) for tokens in drafts)
        padded = [tokens + [-1] * (width - len(tokens)) for tokens in drafts]  # what lies beyond a length is ignored
        return Draft(
            torch.tensor(padded, dtype=torch.int64).reshape(len(drafts), width),
            torch.tensor([len(tokens) for tokens in drafts]),
        )

    def observe(self, step: Step) -> None:
        pass

    def _row(self, index: int) -> list[int]:
        row = self._context.rows[index]
        length = min(self._random.choice(self._lengths), row.room)
        known = list(self._truths[row.request][len(row.output) :])
        tokens = (known + [0] * length)[:length]
        return [self._maybe_wrong(token) for token in tokens]

    def _maybe_wrong(self, token: int) -> int:
        if self._random.random() < self._right:
            return token
        return (token + self._random.randrange(1, self._vocabulary_size)) % self._vocabulary_size


class CudaDrafter(ScriptedDrafter):
    """Propose on the device what the scripted drafter proposes."""

    def propose(self, context: Context, chance: Chance) -> Draft:
        draft = super().propose(context, chance)
        return Draft(draft.tokens.to(context.device), draft.lengths.to(context.device))


class ChanceDrafter:
    """Propose tokens that chance draws evenly; a few are right in a small vocabulary."""

    needs: frozenset[str] = frozenset()
    learns = False

    def __init__(self, vocabulary_size: int, length: int) -> None:
        self._vocabulary_size = vocabulary_size
        self._length = length

    def start(self, context: Context, rows: Sequence[int]) -> None:
        pass

    def propose(self, context: Context, chance: Chance) -> Draft:
        width = min(self._length, context.max_room)
        even = torch.full((len(context.rows), width, self._vocabulary_size), 1 / self._vocabulary_size)
        return Draft(chance.categorical(even), torch.minimum(torch.tensor(width), context.room))

    def observe(self, step: Step) -> None:
        pass
