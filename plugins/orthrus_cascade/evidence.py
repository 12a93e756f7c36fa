"""Evidence of what a drafter is worth: tokens accepted, passes and seconds taken. Pure: no torch and no clock."""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Sequence

HOPED = 4.0  # tokens accepted in a cycle, until it is known better
ROW_FADES, ALL_FADE = 0.95, 0.995  # what is left of the evidence of a row, and of all rows, a cycle later
PRIOR_CYCLES = 2.0  # cycles of a row that what is known of all rows counts for
TRIALS = 3  # cycles that a drafter is given before it is held against others
TIMED = 9  # cycles, the last ones, that times are taken from


class FadingMean:
    """A mean in which what came last counts most; as it fades, it becomes what it was before anything came."""

    def __init__(self) -> None:
        self._total = self._weight = 0.0

    def fade(self, left: float) -> None:
        """Let so much be left of what came so far."""
        self._total *= left
        self._weight *= left

    def add(self, value: float) -> None:
        """Take note of a value."""
        self._total += value
        self._weight += 1

    def mean(self, prior: float, strength: float) -> float:
        """Return the mean, with a prior that counts as so many values."""
        return (prior * strength + self._total) / (strength + self._weight)


class Evidence:
    """What is known of one drafter: how much of its drafts is accepted, in each row and in all, and what they cost.

    It fades with every cycle, drafted or not: a drafter that was poor is tried again, seldom.
    """

    def __init__(self) -> None:
        self._all = FadingMean()
        self._rows: dict[int, FadingMean] = {}
        self._passes: deque[float] = deque(maxlen=TIMED)
        self._seconds: dict[int, deque[float]] = {}  # by number of rows

    def start(self, rows: Sequence[int]) -> None:
        """Forget what was known of these rows."""
        for row in rows:
            self._rows.pop(row, None)

    def move_rows(self, sources: Sequence[int]) -> None:
        """Take what is known of the rows along (see `MovesRows`)."""
        self._rows = {row: self._rows[source] for row, source in enumerate(sources) if source in self._rows}

    def fade(self) -> None:
        """Note that a cycle went by."""
        self._all.fade(ALL_FADE)
        for row in self._rows.values():
            row.fade(ROW_FADES)

    def accepted(self, counts: Sequence[tuple[int, int]]) -> None:
        """Note how many tokens were accepted in each row that was drafted for: pairs of row and count."""
        for row, count in counts:
            self._rows.setdefault(row, FadingMean()).add(count)
        self._all.add(statistics.fmean(count for _, count in counts))

    def cost(self, rows: int, passes: float, seconds: float) -> None:
        """Note what a cycle of so many rows took: passes, of which one verified, and seconds."""
        self._passes.append(passes)
        self._seconds.setdefault(rows, deque(maxlen=TIMED)).append(seconds)

    def expected(self, row: int) -> float:
        """Return how many tokens a draft for this row may be accepted of."""
        everywhere = self._all.mean(HOPED, 1.0)
        return self._rows[row].mean(everywhere, PRIOR_CYCLES) if row in self._rows else everywhere

    def passes(self) -> float | None:
        """Return the passes of a cycle, as of the last ones; None if there were too few."""
        return statistics.fmean(self._passes) if len(self._passes) >= TRIALS else None

    def seconds(self, rows: int) -> float | None:
        """Return the seconds of a cycle of so many rows, as of the last ones; None if too few were timed.

        Their median: now and then a cycle takes far longer, because something is compiled or captured.
        """
        timed = self._seconds.get(rows, ())
        return statistics.median(timed) if len(timed) >= TRIALS else None
