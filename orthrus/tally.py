"""A tally of a session: totals over all of its requests, for whoever needs no events of each of them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from orthrus.values import Step


@dataclass(frozen=True)
class Totals:
    """What the requests of a session came to between two looks.

    tokens: committed. drafts: how many times drafts were proposed for a request; drafted: their tokens; accepted: those
    of them that were committed; accepted_at: by position in a draft, how often it was. gaps: seconds from a request's
    tokens to its next ones, each with how many there were.
    """

    tokens: int = 0
    drafts: int = 0
    drafted: int = 0
    accepted: int = 0
    accepted_at: tuple[int, ...] = ()
    gaps: tuple[tuple[float, int], ...] = ()


class Tally:
    """Totals since they were last taken. Drafts count in a session of `counts_drafts=True` alone."""

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self.tokens = self._drafted = 0
        self._accepted = Counter[int]()  # by how many drafts of a request were, how many times that was so
        self._gaps = Counter[float]()  # few, as the rows of a step have the same

    def add(self, step: Step) -> None:
        """Count a step."""
        counts = [len(tokens) for tokens in step.committed]
        self.tokens += sum(counts)
        for drafted, accepted, count in zip(step.drafted or (), step.accepted, counts, strict=False):
            if drafted and count:
                self._drafted += drafted
                self._accepted[min(accepted, count)] += 1  # a stop may have cut what was accepted

    def add_gap(self, seconds: float) -> None:
        """Count the time from a request's tokens to its next ones."""
        self._gaps[seconds] += 1

    def take(self) -> Totals:
        """Return the totals, and begin anew."""
        lengths = self._accepted
        totals = Totals(
            self.tokens,
            lengths.total(),
            self._drafted,
            sum(length * times for length, times in lengths.items()),
            tuple(
                sum(times for length, times in lengths.items() if length > position)
                for position in range(max(lengths, default=0))
            ),
            tuple(self._gaps.items()),
        )
        self._begin()
        return totals
