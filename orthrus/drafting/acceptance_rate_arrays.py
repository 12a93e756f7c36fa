"""Acceptance rates of a large batch, vectorised: this runs between two passes, while the GPU waits.

B: rows, R: ranges.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from orthrus.drafting.acceptance_rate import POOLED_MEMORY, ROW_DOUBT, ROW_MEMORY, AcceptanceRate

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


class BatchEstimates:
    """Estimate what `RowEstimates` does, for all rows at once: it takes hardly longer for a hundred than for one."""

    def __init__(self, sizes: Sequence[int], pooled: AcceptanceRate) -> None:
        self._sizes, self._pooled = tuple(sizes), pooled
        self._outcomes = _outcomes(sizes)  # [2R, (n + 1) ** 2]
        self._seen = np.zeros((len(self._outcomes), 0))  # [2R, B]: hits, then tries
        self._survival = np.ones(
            (self._sizes[-1] + 1, 0)
        )  # [n + 1, B], preallocated: allocating it each cycle is slower
        self._weights: Floats = np.ones(0)  # of a cycle's observations for all rows together; the last weighs 1

    def start(self, rows: Sequence[int]) -> None:
        """Forget what was known of these rows."""
        self._widen(max(rows, default=-1) + 1)
        self._seen[:, list(rows)] = 0

    def _widen(self, count: int) -> None:
        """Make room for so many rows; some of them may hold no request."""
        if (missing := count - self._seen.shape[1]) > 0:
            self._seen = np.pad(self._seen, ((0, 0), (0, missing)))
            self._survival = np.ones((len(self._survival), self._seen.shape[1]))
            self._weights = np.power(POOLED_MEMORY, np.arange(self._seen.shape[1])[::-1], dtype=np.float64)

    def move_rows(self, sources: Sequence[int]) -> None:
        """Take what is known of the rows along (see `MovesRows`)."""
        self._widen(len(sources))
        seen = self._seen.copy()
        for row, source in enumerate(sources):
            if source not in (row, -1):
                self._seen[:, row] = seen[:, source]

    def observe(self, lengths: Sequence[int], accepted: Sequence[int]) -> None:
        """Take note of the drafts of all rows; a length is 0 where there was none."""
        self._widen(len(lengths))
        drafts = _integers(lengths)
        outcomes = self._outcomes.take(drafts * (self._sizes[-1] + 1) + _integers(accepted), axis=1)  # [2R, B]
        seen, count = self._seen[:, : len(drafts)], int(np.count_nonzero(drafts))
        if count == len(drafts):
            seen *= ROW_MEMORY
        else:
            seen[:, drafts > 0] *= ROW_MEMORY
        seen += outcomes
        new = outcomes if count == len(drafts) else outcomes[:, drafts > 0]
        hits_and_tries = np.add.reduce(new * self._weights[len(self._weights) - count :], axis=1).tolist()
        self._pooled.add(count, hits_and_tries[: len(self._sizes) - 1], hits_and_tries[len(self._sizes) - 1 :])

    def expected(self, available: Sequence[int | None], count: int, chance: float | None = None) -> list[float]:
        """Return the tokens that all live rows are expected to commit for each of the first `count` sizes.

        chance: that of each draft; None: what is estimated.
        """
        self._widen(len(available))
        drafts = _integers([-1 if most is None else most for most in available])
        chances = self._chances(len(drafts)) if chance is None else np.full((count - 1, 1), chance)
        live = int(np.count_nonzero(drafts >= 0))
        gains = [0.0, *itertools.accumulate(self._accepted(chances, self._sizes[:count], drafts))]
        return [live + gains[size] for size in self._sizes[:count]]

    def _accepted(self, chances: Floats, sizes: tuple[int, ...], available: Integers) -> list[float]:
        """Return how many drafts of each place are expected to be accepted, of all rows.

        chances: [R, B], or [R, 1] if they are those of all rows. available: how many drafts there are for each row [B].
        """
        survival = self._survival[: sizes[-1] + 1, : len(available)]
        ranges, places = _places(sizes)
        for before, here, index in zip(survival, survival[1:], ranges, strict=False):
            np.multiply(before, chances[index], out=here)  # over a few places; `accumulate` is slow along this axis
        right = survival[1:]
        right *= places < available
        sums: list[float] = np.add.reduce(right, axis=1).tolist()
        return sums

    def _chances(self, count: int) -> Floats:
        """Return the estimates for the first rows [R, B]."""
        assumed = np.array(self._pooled.chances())
        hits, tries = self._seen[: len(assumed), :count], self._seen[len(assumed) :, :count]
        return (hits + (ROW_DOUBT * assumed)[:, None]) / (tries + ROW_DOUBT)


@functools.cache
def _places(sizes: tuple[int, ...]) -> tuple[list[int], Integers]:
    """Return the range of each place, and the places as a column [n, 1]."""
    return np.repeat(np.arange(len(sizes) - 1), np.diff(sizes)).tolist(), np.arange(sizes[-1])[:, None]


def _outcomes(sizes: Sequence[int]) -> Floats:
    """Return how many drafts of each range were right, then how many were tried, by length * (n + 1) + accepted."""
    begins, ends = np.array(sizes[:-1])[:, None], np.array(sizes[1:])[:, None]
    lengths, accepted = np.indices((sizes[-1] + 1, sizes[-1] + 1)).reshape(2, -1)
    counts = np.minimum(lengths, accepted), np.minimum(lengths, accepted + 1)
    return np.concatenate([np.clip(row_counts, begins, ends) - begins for row_counts in counts]).astype(float)


def _integers(values: Sequence[int]) -> Integers:
    return np.fromiter(values, np.int64, len(values))
