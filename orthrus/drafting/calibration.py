"""Calibration of a drafter's own probabilities: how often what it was so sure of is accepted. Pure: no torch."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

EDGES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.97)  # of a drafter's own probabilities, between two bins
MEMORY = 0.998  # what an observation weighs after each further one
DOUBT = 4.0  # observations that a drafter's own word weighs
HOPE = 0.5  # power of its word: what is believed too high is tried and mended, what is believed too low never would be


class Calibration:
    """The chance that a draft is accepted once all before it were, by the probability that its drafter gave it."""

    def __init__(self) -> None:
        self._hits = [0.0] * (len(EDGES) + 1)
        self._tries = [0.0] * (len(EDGES) + 1)

    def observe(self, probabilities: Sequence[float], accepted: int) -> None:
        """Take note of a draft: its first `accepted` tokens were right and, if there is one, the next was not."""
        for place, probability in enumerate(probabilities[: accepted + 1]):
            self._hits = [count * MEMORY for count in self._hits]
            self._tries = [count * MEMORY for count in self._tries]
            index = bisect_right(EDGES, probability)
            self._hits[index] += place < accepted
            self._tries[index] += 1

    def chance(self, probability: float) -> float:
        """Return the chance of a draft of this probability."""
        index = bisect_right(EDGES, probability)
        hoped: float = max(0.0, probability) ** HOPE
        return (self._hits[index] + DOUBT * hoped) / (self._tries[index] + DOUBT)

    def chances(self, probabilities: Sequence[float]) -> list[float]:
        """Return the chance of each draft of a row."""
        return [self.chance(probability) for probability in probabilities]
