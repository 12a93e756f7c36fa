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

    def __init__(self, widths: Sequence[int], trees: bool = False) -> None:
        """trees: let each token of a draft have two children; else drafts are chains."""
        self.drafts_trees = trees
        self._widths = itertools.cycle(widths)
        # By rows and width, so that a draft launches next to nothing.
        self._known: dict[tuple[int, int], tuple[Tensor, Tensor | None]] = {}

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
        if (rows, width) not in self._known:
            tokens = made_up_tokens(context, width)
            self._known[rows, width] = tokens, parents_in_pairs(tokens) if self.drafts_trees else None
        tokens, parents = self._known[rows, width]
        return Draft(tokens, context.room.clamp(max=width), parents=parents)

    def observe(self, step: Step) -> None:
        """There is nothing to note."""


def made_up_tokens(context: Context, width: int) -> Tensor:
    """Return tokens [B, n] that differ, so that a mixture of experts is as busy as it would be."""
    rows = len(context.rows)
    places = torch.arange(rows * width, device=context.device).view(rows, width)
    return places * 7919 % context.vocabulary_size


def parents_in_pairs(tokens: Tensor) -> Tensor:
    """Return the parents [B, n] of a tree in which each token [B, n], and the anchor, has two children."""
    children = torch.arange(tokens.shape[1], device=tokens.device)
    return (children // 2 - 1).expand(tokens.shape)
