"""A drafter of given widths whose drafts cost nothing, to measure what cycles cost. B: rows, n: width of a draft."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor

from orthrus.batch.context import Context
from orthrus.chance import Chance
from orthrus.values import Draft, Step


class ScriptedWidths:
    """Draft so many tokens in each cycle, one width after the other and again; hardly any of them is right.

    The tokens differ, so that a mixture of experts is as busy as it would be.
    """

    name = "scripted"
    needs: frozenset[str] = frozenset()
    learns = False
    moves_rows = True

    def __init__(self, widths: Sequence[int]) -> None:
        self._widths = itertools.cycle(widths)
        self._tokens: dict[tuple[int, int], Tensor] = {}  # by rows and width, so that a draft launches next to nothing

    def start(self, context: Context, rows: Sequence[int]) -> None:
        """There is nothing to read."""

    def move_rows(self, sources: Sequence[int]) -> None:
        """There is nothing to move."""

    def propose(self, context: Context, chance: Chance) -> Draft:
        """Return a draft of the next width, or of the most that any row has room for."""
        width = min(next(self._widths), context.max_room)
        if width == 0:
            return context.empty_draft()
        rows = len(context.rows)
        if (rows, width) not in self._tokens:
            places = torch.arange(rows * width, device=context.device).view(rows, width)
            self._tokens[rows, width] = places * 7919 % context.vocabulary_size
        return Draft(self._tokens[rows, width], context.room.clamp(max=width))

    def observe(self, step: Step) -> None:
        """There is nothing to note."""
