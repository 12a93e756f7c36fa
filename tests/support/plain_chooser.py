"""The chooser of sizes as it was first written, row by row in plain Python: what the quicker one must choose too."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Sequence

PRIOR, OPTIMISM = 0.7, 0.8
ROW_MEMORY, POOLED_MEMORY = 0.92, 0.98
ROW_DOUBT, POOLED_DOUBT = 4.0, 1.0
FIRST_REST, LONGEST_REST = 16, 64


class PlainAcceptance:
    """Estimate the chance that a draft is accepted once all before it were, for each range of places between sizes.

    Older observations count less. What is not known of a range is assumed of it: what `base` knows, or without one what
    is known of the range before it.
    """

    def __init__(self, sizes: Sequence[int], base: PlainAcceptance | None = None) -> None:
        self._ranges = [*itertools.pairwise(sizes)]  # after how many drafts each begins and ends
        self._hits = [0.0] * len(self._ranges)
        self._tries = [0.0] * len(self._ranges)
        self._base = base
        self._found: list[float] = []  # of a pooled estimate, for which all rows ask
        self._memory, self._doubt = (POOLED_MEMORY, POOLED_DOUBT) if base is None else (ROW_MEMORY, ROW_DOUBT)

    def observe(self, length: int, accepted: int) -> None:
        """Take note of a draft: its first `accepted` tokens were right and, if there is one, the next was not."""
        tried, self._found = min(length, accepted + 1), []
        for index, (begin, end) in enumerate(self._ranges):
            self._hits[index] *= self._memory
            self._tries[index] *= self._memory
            if begin < tried:
                self._hits[index] += max(0, min(accepted, end) - begin)
                self._tries[index] += min(tried, end) - begin

    def chances(self) -> list[float]:
        """Return the estimates, one a range."""
        if self._base is not None:
            return [self._estimate(index, assumed) for index, assumed in enumerate(self._base.chances())]
        if not self._found:
            for index in range(len(self._ranges)):
                self._found.append(self._estimate(index, self._found[-1] if self._found else PRIOR))
        return self._found

    def _estimate(self, index: int, assumed: float) -> float:
        return (self._hits[index] + self._doubt * assumed) / (self._tries[index] + self._doubt)


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


class PlainChooser:
    """Choose the size with the most expected tokens a second for all rows together.

    Where that is to draft nothing, nothing would be learned either: so now and then it probes. A probe costs more than
    a plain cycle; after one that changed nothing it rests, twice as long each time, until all probes together take no
    more than one plain cycle in LONGEST_REST. A row begins with what is known of all rows so far.
    """

    def __init__(self, sizes: Sequence[int]) -> None:
        self.chosen: Counter[int] = Counter()  # how often each size was
        self._sizes = sizes
        self._pooled = PlainAcceptance(sizes)
        self._rows: dict[int, PlainAcceptance] = {}
        self._proposed: dict[int, int] = {}  # drafts of each row in this cycle
        self._seen: tuple[object, ...] = ()  # what the last weighing rested on
        self._right = False  # whether anything was accepted when last something was drafted
        self._rest = 0.0
        self._wait = 0

    def start(self, rows: Sequence[int]) -> None:
        """Forget what was known of these rows."""
        self._rows |= {row: PlainAcceptance(self._sizes, self._pooled) for row in rows}
        self._seen = ()

    def choose(self, available: Sequence[int | None], costs: Sequence[float]) -> int:
        """Return the size for the next cycle.

        available: how many drafts each row could be given; None for a row that has ended. costs: seconds of a cycle for
        each size, from 0 drafts to the largest that may be chosen.
        """
        size = self._weigh(available, costs)
        self._proposed = {row: min(size, most) for row, most in enumerate(available) if most and size}
        self.chosen[size] += 1
        return size

    def observe(self, accepted: Sequence[int]) -> None:
        """Take note of how many drafts of each row were accepted."""
        for row, length in self._proposed.items():
            self._rows[row].observe(length, accepted[row])
            self._pooled.observe(length, accepted[row])
        if self._proposed:
            self._seen = ()
            self._right = any(accepted[row] for row in self._proposed)

    def _weigh(self, available: Sequence[int | None], costs: Sequence[float]) -> int:
        top = self._sizes[len(costs) - 1]
        seen = (top, *(None if most is None else min(most, top) for most in available))
        if top == 0 or not any(available):
            return 0
        if seen != self._seen or not self._wait:
            self._seen = seen
            tokens = self._expected(available, len(costs))
            if best := _fastest(tokens, costs):
                if self._right:  # an estimate that was never right may be a hope, and hopes must not end a rest
                    self._rest, self._wait = 0.0, 0
                return self._sizes[best]
            if not self._wait:
                return self._probe(available, costs, tokens)
        self._wait -= 1
        return 0

    def _probe(self, available: Sequence[int | None], costs: Sequence[float], tokens: Sequence[float]) -> int:
        """Return the size that would be best, but for 0, if the drafter were good; rest by what it may lose."""
        hoped = self._expected(available, len(costs), [OPTIMISM] * len(costs))
        index = _fastest(hoped, costs, first=1)
        excess = costs[index] / costs[0] - tokens[index] / tokens[0]  # in plain cycles
        self._rest = min(max(2 * self._rest, FIRST_REST * excess), LONGEST_REST * excess)
        self._wait = math.ceil(self._rest)
        return self._sizes[index]

    def _expected(
        self, available: Sequence[int | None], count: int, chances: Sequence[float] | None = None
    ) -> list[float]:
        """Return the tokens that all live rows are expected to commit for each of the first `count` sizes."""
        sizes = self._sizes[:count]
        rows = [
            expected_tokens(self._rows[row].chances() if chances is None else chances, sizes, most)
            for row, most in enumerate(available)
            if most is not None
        ]
        return [sum(column) for column in zip(*rows, strict=True)]


def _fastest(tokens: Sequence[float], costs: Sequence[float], first: int = 0) -> int:
    """Return the index, from `first` on, with the most tokens a second; of equals the first."""
    return max(range(first, len(costs)), key=lambda index: tokens[index] / costs[index])
