"""Costs of steps: seconds of a cycle by rows and drafts, of drafting, and of a prefill. Pure: no torch and no clock."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class CycleCosts:
    """What steps of one drafter take, in seconds; what was not measured is interpolated.

    scored: by the number of rows and that of drafts a row, a whole cycle, from one commit to the next, whose draft
    costs nothing. trees: the same of trees, by their tokens. drafting: by the number of rows, what cycles take beyond
    that: proposing, observing, and what more the host does. prefill: by the number of prompts that are passed over at a
    time, the whole step.
    """

    scored: Mapping[int, Mapping[int, float]]
    drafting: Mapping[int, float] = field(default_factory=dict)
    prefill: Mapping[int, float] = field(default_factory=dict)
    trees: Mapping[int, Mapping[int, float]] = field(default_factory=dict)

    def cycle(self, rows: int, drafts: int, tree: bool = False) -> float:
        """Return the seconds of a cycle in which so many rows have a draft of this width, a chain or a tree."""
        return self.scoring(rows, drafts, tree) + interpolated(self.drafting, rows)

    def scoring(self, rows: int, drafts: int, tree: bool = False) -> float:
        """Return the seconds of such a cycle without what drafting costs."""
        costs = self.trees if tree else self.scored
        return interpolated({count: interpolated(known, drafts) for count, known in costs.items()}, rows)

    def prefilling(self, prompts: int) -> float:
        """Return the seconds of a step that passes over so many prompts."""
        return interpolated(self.prefill, prompts)


def interpolated(known: Mapping[int, float], at: int) -> float:
    """Return the value on the line between the two nearest known points; beyond the last that of the last, else 0."""
    if at in known:
        return known[at]
    points = sorted(known)
    after = bisect_left(points, at)
    if after in (0, len(points)):
        return known[points[min(after, len(points) - 1)]] if points else 0.0
    low, high = points[after - 1], points[after]
    return known[low] + (known[high] - known[low]) * (at - low) / (high - low)
