"""The length of a draft that is worth scoring, by how sure its drafter is of each token. Pure.

A pass over fewer drafts is shorter, and what a drafter is not sure of is hardly ever accepted. The length may not
depend on tokens that were drawn, only on what was likely: it is for drafters that choose the likeliest.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field

from orthrus.drafting.calibration import Calibration

MEMORY = 0.99  # what a cycle weighs after each further one


@dataclass
class _Gains:
    """What cycles of so many rows bring, over plain ones: that is alike for short texts and long ones.

    plain_tokens, plain_seconds: expected of the cycles so far, and what they cost, in those of a plain cycle. cut: by
    size, how many times as much a cycle brings as without a cut.
    """

    plain_tokens: float = 0.0
    plain_seconds: float = 0.0
    cut: dict[int, float] = field(default_factory=dict)

    @property
    def drafting(self) -> float:
        """How many times as many tokens a second as plain decoding the cycles so far brought; 1 at first."""
        return max(1.0, self.plain_tokens / self.plain_seconds) if self.plain_seconds else 1.0


class SureLength:
    """Cut drafts where another one is expected to bring fewer tokens than its share of a pass takes.

    What time is worth is what it brought so far with as many rows: as much as plain decoding at first.
    """

    def __init__(self) -> None:
        self._calibration = Calibration()
        self._gains: dict[int, _Gains] = {}  # by live rows
        self._probabilities: list[list[float]] = []  # of this cycle's drafts that were kept, row by row
        self.expected: list[list[float]] = []  # chances of all of this cycle's drafts

    def cut(self, probabilities: Sequence[Sequence[float]], drafting: float, scoring: Sequence[float]) -> int:
        """Return how many drafts of each row to keep.

        probabilities: of each live row's drafts, as many as it has room for. drafting: seconds that drafting took.
        scoring: seconds of the rest of a cycle, for each number of drafts from 0 on.
        """
        self.expected = [self._calibration.chances(row) for row in probabilities]
        tokens = _tokens(self.expected, len(scoring) - 1)
        plain = tokens[0] / scoring[0]
        gains = self._gains.setdefault(len(probabilities), _Gains())
        rate = plain * gains.drafting
        best = max(range(len(tokens)), key=lambda length: tokens[length] - rate * scoring[length])
        gains.plain_tokens = gains.plain_tokens * MEMORY + tokens[best] / tokens[0]
        gains.plain_seconds = gains.plain_seconds * MEMORY + (drafting + scoring[best]) / scoring[0]
        self._probabilities = [list(row[:best]) for row in probabilities]
        if not drafting:
            return best
        gain = tokens[best] / (drafting + scoring[best]) / (tokens[-1] / (drafting + scoring[-1]))
        size = len(tokens) - 1
        gains.cut[size] = gains.cut.get(size, 1.0) * MEMORY + max(1.0, gain) * (1 - MEMORY)
        return best

    def gains(self, rows: int, sizes: Sequence[int]) -> list[float]:
        """Return how many times as much a cycle of each size brings with a cut; of one never drafted, as a smaller.

        rows: how many are live.
        """
        cut = self._gains[rows].cut if rows in self._gains else {}
        gains, last = [], 1.0
        for size in sizes:
            last = max(1.0, cut.get(size, last))
            gains.append(last)
        return gains

    def observe(self, accepted: Sequence[int]) -> None:
        """Take note of how many drafts of each live row were accepted."""
        for row, count in zip(self._probabilities, accepted, strict=True):
            self._calibration.observe(row, count)
        self.drop()

    def drop(self) -> None:
        """Forget this cycle's drafts: others were scored, or these were."""
        self._probabilities, self.expected = [], []


def _tokens(chances: Sequence[Sequence[float]], most: int) -> list[float]:
    """Return the tokens that all rows are expected to commit for each number of drafts up to `most`."""
    kept = [0.0] * most
    for row in chances:
        for place, survival in enumerate(itertools.accumulate(row[:most], float.__mul__)):
            kept[place] += survival
    return list(itertools.accumulate(kept, initial=float(len(chances))))
