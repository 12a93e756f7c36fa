"""Traces of answers: at each place of a text how much was drafted there, and how much of it the target agreed with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Trace:
    """One answer. drafts: drafted and accepted, by the number of new tokens that were committed before the cycle.

    trees: where it was a tree that was drafted; its tokens are counted with all branches. A trace of every place serves
    for all smaller blocks; one of the places that a decoding came by, for its own block.
    """

    new_tokens: int
    drafts: Mapping[int, tuple[int, int]]
    trees: frozenset[int] = frozenset()

    def at(self, place: int, most: int | None = None) -> tuple[int, int]:
        """Return how much is drafted at a place and accepted of it, where no more than `most` may be drafted."""
        drafted, accepted = self.drafts.get(place, (0, 0))
        return (drafted, accepted) if most is None else (min(drafted, most), min(accepted, most))
