"""Replay: what followed each prompt the last time, with as many wrong tokens in it as it is told."""

from __future__ import annotations

import random
from collections.abc import Sequence

import torch

from orthrus import Chance, Context, Draft, Parts, Row, Step
from orthrus_drafters.options import ReplayOptions


class Replay:
    """Propose what followed a prompt when it was last answered, each token wrong with a fixed probability.

    It gives the acceptance that it is told to, at the cost of no pass, so that the speed of a target can be measured
    without a drafter's weights. The verifier verifies as always. A prompt that it has not seen gets empty drafts.
    """

    name = "replay"
    needs: frozenset[str] = frozenset()
    learns = True

    def __init__(self, block: int = 16, acceptance: float = 0.8) -> None:
        self._width = block - 1
        self._acceptance = acceptance
        self._texts: dict[tuple[int, ...], list[int]] = {}  # what followed each prompt
        self._rows: list[Row] = []

    def start(self, context: Context, rows: Sequence[int]) -> None:
        """Upload the drafts for the new rows' prompts, all of them at once, errors included."""
        if self._rows is not context.rows:
            self._begin(context)
        self._widen(max(len(context.rows[row].output) + context.rows[row].room for row in rows))
        for index in rows:
            prompt = context.rows[index].prompt
            drafts = self._drafts(prompt, context.vocabulary_size)[: self._memory.shape[1]]
            uploaded = torch.tensor(drafts, dtype=torch.int64).to(context.device, non_blocking=True)
            self._memory[index, : len(drafts)] = uploaded
            self._known[index] = len(drafts)
            self._prompts[index] = prompt
        self._align(context)

    def _align(self, context: Context) -> None:
        """Take note of where the texts of the rows begin and end; of rows that hold another prompt none is known."""
        self._starts = context.prompt_lengths
        rows = zip(context.rows, self._prompts, self._known, strict=True)
        known = torch.tensor([count if row.prompt is prompt else 0 for row, prompt, count in rows])
        self._ends = self._starts + known.to(context.device, non_blocking=True)  # [B] of the texts known
        self._columns = torch.arange(self._width, device=context.device) - self._starts[:, None]  # [B, n]

    def propose(self, context: Context, chance: Chance) -> Draft:
        """Return the next tokens of each row's drafts, as many as a block and the row's room take."""
        if self._width == 0 or not any(self._known):
            return context.empty_draft()
        if self._starts is not context.prompt_lengths:  # rows were filled that have not been started
            self._align(context)
        tokens = self._memory.gather(1, context.lengths[:, None] + self._columns)
        left = torch.minimum(self._ends - context.lengths, context.room)
        return Draft(tokens, left.clamp(0, self._width))

    def observe(self, step: Step) -> None:
        """Remember what followed the prompts of rows that ended; of two texts that agree, the longer one."""
        for row, finished in zip(self._rows, step.finished, strict=True):
            if finished and self._texts.get(row.prompt, [])[: len(row.output)] != row.output:
                self._texts[row.prompt] = list(row.output)

    def _begin(self, context: Context) -> None:
        self._rows = context.rows
        longest = max(len(request.output) + request.room for request in context.requests)
        self._memory = torch.zeros(len(self._rows), 0, dtype=torch.int64, device=context.device)
        self._widen(longest)
        self._known = [0] * len(self._rows)
        self._prompts: list[tuple[int, ...]] = [()] * len(self._rows)

    def _widen(self, longest: int) -> None:
        """Make room for texts of so many tokens.

        As many columns more as a draft has: what is gathered from them is beyond the draft's length.
        """
        missing = longest + self._width - self._memory.shape[1]
        if missing > 0:
            self._memory = torch.nn.functional.pad(self._memory, (0, missing))

    def _drafts(self, prompt: tuple[int, ...], vocabulary_size: int) -> list[int]:
        """Return the remembered text, each token wrong or not by a draw that prompt and place alone decide."""
        chooser, text = random.Random(str(prompt)), self._texts.get(prompt, [])
        draws = [(chooser.random(), chooser.randrange(1, max(2, vocabulary_size))) for _ in text]
        return [
            token if draw < self._acceptance else (token + shift) % vocabulary_size
            for token, (draw, shift) in zip(text, draws, strict=True)
        ]


def make(options: ReplayOptions, parts: Parts) -> Replay:
    """Return the drafter."""
    return Replay(options.block, options.acceptance)
