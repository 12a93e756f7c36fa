"""Estimates of what more tokens of a tree add to what is accepted, counted on the trees of a decoding.

B: rows, R: ranges of tokens.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from orthrus.drafting.acceptance_rate import POOLED_DOUBT, POOLED_MEMORY, ROW_DOUBT, ROW_MEMORY
from orthrus.values import DraftedTree

Floats = NDArray[np.float64]
GROWTH = 0.2  # share by which twice as many tokens raise what is accepted, where that was not seen


class TreeGains:
    """The mean number of accepted tokens among those of each range between sizes, of a row and of all rows.

    The tokens of a tree come best first, so that a smaller tree is the beginning of a larger one: what each size would
    have kept of a text is counted on the larger one, and nothing is guessed. What is not known of a range is assumed:
    of the first that it keeps what a chain would, of each further one that it adds GROWTH for twice as many tokens.
    Older trees count less.
    """

    def __init__(self, sizes: Sequence[int]) -> None:
        begins = (0, *sizes[:-1])
        self._range_of = [index for index, end in enumerate(sizes) for _ in range(begins[index], end)]
        self._begins, self._ends = np.array(begins)[:, None], np.array(sizes)[:, None]  # [R, 1]
        doublings = [math.log2((end + 1) / (begin + 1)) for begin, end in itertools.pairwise(sizes)]
        self._growth = [1.0, *(GROWTH * count for count in doublings)]  # of the first range: over a chain's tokens
        self._rows = np.zeros((2, len(sizes), 0))  # [2, R, B]: accepted tokens, and trees that had the range
        self._pooled = np.zeros((2, len(sizes)))

    def start(self, rows: Sequence[int]) -> None:
        """Forget what was known of these rows."""
        self._widen(max(rows, default=-1) + 1)
        self._rows[:, :, list(rows)] = 0

    def _widen(self, count: int) -> None:
        if (missing := count - self._rows.shape[2]) > 0:
            self._rows = np.pad(self._rows, ((0, 0), (0, 0), (0, missing)))

    def move_rows(self, sources: Sequence[int]) -> None:
        """Take what is known of the rows along (see `MovesRows`)."""
        self._widen(len(sources))
        rows = self._rows.copy()
        for row, source in enumerate(sources):
            if source not in (row, -1):
                self._rows[:, :, row] = rows[:, :, source]

    def observe(self, trees: Sequence[DraftedTree]) -> None:
        """Take note of the tree of each row; one without tokens was none."""
        self._widen(len(trees))
        lengths = np.array([len(tree.parents) for tree in trees])
        there = lengths > 0
        kept = [[0.0] * len(trees) for _ in self._growth]
        for row, tree in enumerate(trees):
            for token in tree.kept:
                kept[self._range_of[token]][row] += 1
        full = (self._ends <= lengths).astype(float)  # [R, B]; a part of a range tells little
        outcomes = np.stack([np.array(kept) * full, full])[:, :, there]
        self._rows[:, :, : len(trees)][:, :, there] *= ROW_MEMORY
        self._rows[:, :, : len(trees)][:, :, there] += outcomes
        self._fade(int(there.sum()))
        self._pooled += outcomes.sum(-1)

    def pass_over(self, rows: Sequence[int]) -> None:
        """Take note that these rows had chains, which tell nothing of a tree: what is known of trees gets older."""
        self._widen(max(rows, default=-1) + 1)
        self._rows[:, :, list(rows)] *= ROW_MEMORY
        self._fade(len(rows))

    def _fade(self, trees: int) -> None:
        self._pooled *= POOLED_MEMORY**trees

    def expected(self, available: Sequence[int | None], chain: float, *, hoped: bool = False) -> list[float]:
        """Return the tokens that all live rows are expected to commit for each size.

        available: how many tokens each row could be given; None: it has ended. chain: how many tokens are expected to
        be accepted of a chain that is as long as the smallest tree. hoped: as if nothing else were known.
        """
        self._widen(len(available))
        live = [row for row, most in enumerate(available) if most is not None]
        most = np.array([available[row] for row in live])
        shares = np.clip((most - self._begins) / (self._ends - self._begins), 0, 1)  # [R, B]
        gains = self._assumed(chain, known=False)[:, None] if hoped else self._gains(chain)[:, live]
        totals = np.cumsum((gains * shares).sum(-1))
        return [len(live) + float(total) for total in totals]

    def _gains(self, chain: float) -> Floats:
        """Return how many tokens of each range are expected to be accepted [R, B]."""
        kept, trees = self._rows
        return (kept + ROW_DOUBT * self._assumed(chain)[:, None]) / (trees + ROW_DOUBT)

    def _assumed(self, chain: float, known: bool = True) -> Floats:
        """Return the same for a row of which nothing is known [R], by what is known of all rows, or of none."""
        gains: list[float] = []
        for growth, kept, trees in zip(self._growth, *self._pooled.tolist(), strict=True):
            guess = growth * (sum(gains) if gains else chain)
            gains.append((kept + POOLED_DOUBT * guess) / (trees + POOLED_DOUBT) if known else guess)
        return np.array(gains)
