"""Evidence of what a drafter is worth: tokens accepted, passes and seconds taken. Pure: no torch and no clock."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

HOPED = 4.0  # tokens accepted in a cycle, until it is known better
ROW_FADES, ALL_FADE = 0.95, 0.995  # what is left of the evidence of a row, and of all rows, a cycle later
PRIOR_CYCLES = 2.0  # cycles of a row that what is known of all rows counts for
TRIALS = 3  # cycles that a drafter is given before it is held against others
TIMED = 9  # cycles, the last ones, that times are taken from
OUTLIER = 3.0  # times the least: a cycle that takes longer had something else to do
PATIENCE, MOST_PATIENCE = 64, 4096  # cycles after which a time is too old to count, and what that may grow to


class FadingMean:
    """A mean in which what came last counts most; as it fades, it becomes what it was before anything came."""

    __slots__ = ("_total", "_weight")

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


@dataclass(frozen=True)
class CycleState:
    """The state of a cycle that its time depends on, whoever drafts.

    rows: of the batch. launched: whether a draft was launched ahead in the cycle before. Then whoever drafts waits for
    it, and the one that launched it has a short cycle; all others have none.
    """

    rows: int
    launched: bool


class CycleTimes:
    """Seconds of the last cycles of so many rows, without those that took far longer than the quickest.

    They are unknown until a few agree. Once nothing was timed for long they are too old: what made a drafter slow may
    be over, so one more cycle is timed. Each time it takes twice as long until the next, so that this costs little.
    """

    def __init__(self) -> None:
        self._last: deque[float] = deque(maxlen=TIMED)
        self._mean: float | None = None
        self._cycle = 0  # in which it was timed last
        self._patience = PATIENCE

    def add(self, seconds: float, cycle: int) -> None:
        """Note what a cycle took, and its number."""
        if self._is_old(cycle):
            self._patience = min(2 * self._patience, MOST_PATIENCE)
        self._last.append(seconds)
        self._cycle = cycle
        longest = OUTLIER * min(self._last)
        usual = [taken for taken in self._last if taken <= longest]
        self._mean = sum(usual) / len(usual) if len(usual) >= TRIALS else None

    def mean(self, cycle: int) -> float | None:
        """Return the mean, in a cycle of this number; None if too few are known, or if they are too old."""
        return None if self._is_old(cycle) else self._mean

    def _is_old(self, cycle: int) -> bool:
        return cycle - self._cycle > self._patience


class Evidence:
    """What is known of one drafter: how much of its drafts is accepted, in each row and in all, and what they cost.

    It fades with every cycle, drafted or not: a drafter that was poor is tried again, seldom.
    """

    def __init__(self) -> None:
        self._all = FadingMean()
        self._rows: dict[int, FadingMean] = {}
        self._passes: deque[float] = deque(maxlen=TIMED)
        self._seconds: dict[CycleState, CycleTimes] = {}
        self._shapes: set[tuple[int, int]] = set()  # of passes that there were
        self._cycle = 0  # cycles that went by

    def start(self, rows: Sequence[int]) -> None:
        """Forget what was known of these rows, which have new prompts."""
        for row in rows:
            self._rows.pop(row, None)

    def move_rows(self, sources: Sequence[int]) -> None:
        """Take what is known of the rows along (see `MovesRows`)."""
        self._rows = {row: self._rows[source] for row, source in enumerate(sources) if source in self._rows}

    def fade(self) -> None:
        """Note that a cycle went by."""
        self._cycle += 1
        self._all.fade(ALL_FADE)
        for row in self._rows.values():
            row.fade(ROW_FADES)

    def accepted(self, counts: Sequence[tuple[int, int]]) -> None:
        """Note how many tokens were accepted in each row that was drafted for: pairs of row and count."""
        total = 0
        for row, count in counts:
            if row not in self._rows:
                self._rows[row] = FadingMean()
            self._rows[row].add(count)
            total += count
        self._all.add(total / len(counts))

    def cost(self, state: CycleState, width: int, passes: float, seconds: float) -> None:
        """Note what a cycle with drafts of a width took: passes, of which one verified, and seconds.

        The first pass of a shape may be compiled, captured or measured, so its time is not that of others.
        """
        self._passes.append(passes)
        if (state.rows, width) not in self._shapes:
            self._shapes.add((state.rows, width))
            return
        if state not in self._seconds:
            self._seconds[state] = CycleTimes()
        self._seconds[state].add(seconds, self._cycle)

    def expected(self, row: int) -> float:
        """Return how many tokens a draft for this row may be accepted of."""
        everywhere = self._all.mean(HOPED, 1.0)
        return self._rows[row].mean(everywhere, PRIOR_CYCLES) if row in self._rows else everywhere

    def passes(self) -> float | None:
        """Return the passes of a cycle, as of the last ones; None if there were too few."""
        return sum(self._passes) / len(self._passes) if len(self._passes) >= TRIALS else None

    def seconds(self, state: CycleState) -> float | None:
        """Return the seconds of a cycle in a state, as of the last ones; None if that is not known (any more)."""
        timed = self._seconds.get(state)
        return None if timed is None else timed.mean(self._cycle)
