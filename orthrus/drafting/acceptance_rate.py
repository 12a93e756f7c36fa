"""Acceptance-rate estimates, learned from the drafts of a decoding; row by row, where rows are few."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

PRIOR = 0.7  # chance that a draft is accepted, before any was seen
ROW_MEMORY, POOLED_MEMORY = 0.92, 0.98  # what an observation weighs after each further one
ROW_DOUBT, POOLED_DOUBT = 4.0, 1.0  # observations that what is assumed of a range weighs


class AcceptanceRate:
    """The chance that a draft is accepted once all before it were, for each range of places between sizes.

    Older observations count less. What is not known of a range is assumed of it: what `base` knows, or without one what
    is known of the range before it.
    """

    def __init__(self, sizes: Sequence[int], base: AcceptanceRate | None = None) -> None:
        self._ranges = [*itertools.pairwise(sizes)]  # after how many drafts each begins and ends
        self._hits = [0.0] * len(self._ranges)
        self._tries = [0.0] * len(self._ranges)
        self._base = base
        self._estimates: list[float] = []  # of a pooled estimate, for which all rows ask
        self._memory, self._doubt = (POOLED_MEMORY, POOLED_DOUBT) if base is None else (ROW_MEMORY, ROW_DOUBT)

    def observe(self, length: int, accepted: int) -> None:
        """Take note of a draft: its first `accepted` tokens were right and, if there is one, the next was not."""
        tried, self._estimates = min(length, accepted + 1), []
        for index, (begin, end) in enumerate(self._ranges):
            self._hits[index] *= self._memory
            self._tries[index] *= self._memory
            if begin < tried:
                self._hits[index] += max(0, min(accepted, end) - begin)
                self._tries[index] += min(tried, end) - begin

    def expect(self, chances: Sequence[float]) -> None:
        """Take note of a draft of which the chance of each token is known, whether it was scored or not."""
        self._estimates, survival = [], 1.0
        for index, (begin, end) in enumerate(self._ranges):
            self._hits[index] *= self._memory
            self._tries[index] *= self._memory
            for chance in chances[begin:end]:
                self._tries[index] += survival
                survival *= chance
                self._hits[index] += survival

    def add(self, drafts: int, hits: Sequence[float], tries: Sequence[float]) -> None:
        """Take note of so many drafts at once: what is to be added once what was known has faded, for each range."""
        fade, self._estimates = self._memory**drafts, []
        self._hits = [old * fade + new for old, new in zip(self._hits, hits, strict=True)]
        self._tries = [old * fade + new for old, new in zip(self._tries, tries, strict=True)]

    def chances(self) -> list[float]:
        """Return the estimates, one a range."""
        if self._base is not None:
            return [self._estimate(index, assumed) for index, assumed in enumerate(self._base.chances())]
        if not self._estimates:
            for index in range(len(self._ranges)):
                self._estimates.append(self._estimate(index, self._estimates[-1] if self._estimates else PRIOR))
        return self._estimates

    def _estimate(self, index: int, assumed: float) -> float:
        return (self._hits[index] + self._doubt * assumed) / (self._tries[index] + self._doubt)


class RowEstimates:
    """Estimate for each row, one after the other."""

    def __init__(self, sizes: Sequence[int], pooled: AcceptanceRate) -> None:
        self._sizes, self._pooled = sizes, pooled
        self._rows: dict[int, AcceptanceRate] = {}

    def start(self, rows: Sequence[int]) -> None:
        """Forget what was known of these rows."""
        self._rows |= {row: AcceptanceRate(self._sizes, self._pooled) for row in rows}

    def move_rows(self, sources: Sequence[int]) -> None:
        """Take what is known of the rows along (see `MovesRows`)."""
        self._rows = {row: self._rows[source] for row, source in enumerate(sources) if source >= 0}

    def observe(self, lengths: Sequence[int], accepted: Sequence[int]) -> None:
        """Take note of the drafts of all rows; a length is 0 where there was none."""
        for row, length in enumerate(lengths):
            if length:
                self._rows[row].observe(length, accepted[row])
                self._pooled.observe(length, accepted[row])

    def expect(self, chances: Mapping[int, Sequence[float]]) -> None:
        """Take note of drafts of which the chance of each token is known, by row."""
        for row, own in chances.items():
            self._rows[row].expect(own)
            self._pooled.expect(own)

    def expected(self, available: Sequence[int | None], count: int, chance: float | None = None) -> list[float]:
        """Return the tokens that all live rows are expected to commit for each of the first `count` sizes.

        chance: that of each draft; None: what is estimated.
        """
        sizes, same = self._sizes[:count], [chance or 0.0] * (count - 1)
        rows = [
            expected_tokens(self._rows[row].chances() if chance is None else same, sizes, most)
            for row, most in enumerate(available)
            if most is not None
        ]
        return [sum(column) for column in zip(*rows, strict=True)]


def expected_tokens(chances: Sequence[float], sizes: Sequence[int], available: int) -> list[float]:
    """Return how many tokens a cycle is expected to commit for each size, of which so many drafts are available."""
    tokens, survival = [1.0], 1.0
    for begin, end, chance in zip(sizes, sizes[1:], chances, strict=False):
        places = max(0, min(end, available) - begin)
        right = chance**places
        gain = float(places) if chance >= 1 else chance * (1 - right) / (1 - chance)
        tokens.append(tokens[-1] + survival * gain)
        survival *= right
    return tokens
