"""The draft-length policy: expected accepted tokens against the cost of a cycle. Pure: no torch and no clock.

A size is a number of drafts; 0 is plain decoding. What a batch drafts shares a pass, so there is one size for all rows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from orthrus.drafting.acceptance_rate import AcceptanceRate, RowEstimates
from orthrus.drafting.acceptance_rate_arrays import BatchEstimates
from orthrus.drafting.probing import Probing

OPTIMISM = 0.8  # chance of a draft for the size of a probe: how it would be if the drafter were good again
FEW = 4  # so many rows are quicker one by one than in arrays


def draft_sizes(most: int) -> tuple[int, ...]:
    """Return 0, 1, 3, 7, ...: with the anchor a power of two tokens a pass, and at last `most`; few, as shapes cost."""
    powers = [(1 << bits) - 1 for bits in range((most + 1).bit_length()) if (1 << bits) - 1 < most]
    return (*powers, most)


class LengthEstimates:
    """The acceptance rates of chains: row by row where rows are few, else in arrays."""

    def __init__(self, sizes: Sequence[int]) -> None:
        self.pooled = AcceptanceRate(sizes)
        self._few, self._many = RowEstimates(sizes, self.pooled), BatchEstimates(sizes, self.pooled)

    def start(self, rows: Sequence[int]) -> None:
        """Forget what was known of these rows."""
        self._few.start(rows)
        self._many.start(rows)

    def move_rows(self, sources: Sequence[int]) -> None:
        """Take what is known of the rows along (see `MovesRows`)."""
        self._few.move_rows(sources)
        self._many.move_rows(sources)

    def expect(self, chances: Mapping[int, Sequence[float]]) -> None:
        """Take note of the chance that each draft of few rows has, by row."""
        self._few.expect(chances)

    def of(self, rows: int) -> RowEstimates | BatchEstimates:
        """Return the estimates of so many rows."""
        return self._many if rows > FEW else self._few


class DraftLengthPolicy:
    """A policy that chooses the size with the most expected tokens a second for all rows together.

    Where that is to draft nothing, nothing would be learned either: so now and then it probes. A probe costs more than
    a plain cycle; after one that changed nothing it backs off, twice as long each time, until all probes together take
    no more than one plain cycle in LONGEST_BACKOFF. A row begins with what is known of all rows so far.
    """

    def __init__(self, sizes: Sequence[int]) -> None:
        self.chosen: Counter[int] = Counter()  # how often each size was
        self.sizes = sizes
        self._estimates = LengthEstimates(sizes)
        self._rows = self._estimates.of(1)  # the one for the rows of this cycle
        self._proposed: list[int] = []  # drafts of each row in this cycle
        self._chances: Mapping[int, Sequence[float]] = {}  # of each row's drafts in this cycle, if they are known
        self._seen: tuple[object, ...] = ()  # what the last weighing rested on
        self._probing = Probing()

    def start(self, rows: Sequence[int]) -> None:
        """Forget what was known of these rows."""
        self._estimates.start(rows)
        self._seen = ()

    def move_rows(self, sources: Sequence[int]) -> None:
        """Take what is known of the rows along (see `MovesRows`)."""
        self._estimates.move_rows(sources)
        self._seen = ()

    def choose(self, available: Sequence[int | None], costs: Sequence[float]) -> int:
        """Return the size for the next cycle.

        available: how many drafts each row could be given; None for a row that has ended. costs: seconds of a cycle for
        each size, from 0 drafts to the largest that may be chosen.
        """
        size = self.decide(available, costs)
        self.take(size, available)
        return size

    def decide(self, available: Sequence[int | None], costs: Sequence[float]) -> int:
        """Return what `choose` does, for a cycle to come: whoever drafts so much then says so with `take`."""
        self._rows = self._estimates.of(len(available))
        top = self.sizes[len(costs) - 1]
        return self.weigh([most if most is None or most < top else top for most in available], costs)

    def take(self, size: int, available: Sequence[int | None]) -> None:
        """Take note that in this cycle a size is drafted, or as much of it as each row could be given."""
        self._rows = self._estimates.of(len(available))
        self._proposed = [0 if most is None else most if most < size else size for most in available] if size else []
        self.chosen[size] += 1

    def expect(self, chances: Mapping[int, Sequence[float]]) -> None:
        """Take note of the chance of each token that few rows' drafts had, by row, in place of what was accepted."""
        self._chances = chances

    def observe(self, accepted: Sequence[int]) -> None:
        """Take note of how many drafts of each row were accepted."""
        if self._proposed:
            if self._chances:
                self._estimates.expect(self._chances)
            else:
                self._rows.observe(self._proposed, accepted)
            self._probing.observe(accepted, len(self._proposed) - self._proposed.count(0))
            self.drop()  # it was asked for one cycle; in the next ones it may not be asked

    def drop(self) -> None:
        """Forget what was proposed in this cycle, if anything was: another drafter's draft was scored."""
        if self._proposed:
            self._proposed, self._chances, self._seen = [], {}, ()

    def weigh(self, available: list[int | None], costs: Sequence[float]) -> int:
        """Return the size for rows that could be given so many drafts each; costs: as for `choose`."""
        if not any(available):
            return 0
        seen = (len(costs), available)
        if seen != self._seen or self._probing.due:
            self._seen = seen
            tokens = self._rows.expected(available, len(costs))
            if best := fastest(tokens, costs):
                self._probing.pays()
                return self.sizes[best]
            if self._probing.due:
                return self._probe(available, costs, tokens)
        self._probing.rest()
        return 0

    def _probe(self, available: Sequence[int | None], costs: Sequence[float], tokens: Sequence[float]) -> int:
        """Return the size that would be best, but for 0, if the drafter were good; back off by what it may lose."""
        hoped = self._rows.expected(available, len(costs), OPTIMISM)
        index = fastest(hoped, costs, first=1)
        self._probing.begin(costs[index] / costs[0], tokens[index] / tokens[0])
        return self.sizes[index]


def fastest(tokens: Sequence[float], costs: Sequence[float], first: int = 0, end: int | None = None) -> int:
    """Return the index, from `first` on and before `end`, with the most tokens a second; of equals the first."""
    indices = range(first, len(costs) if end is None else end)
    return max(indices, key=lambda index: tokens[index] / costs[index])
