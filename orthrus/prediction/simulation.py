"""Simulation of a decoding from traces and costs: who is in the batch, what each cycle drafts, how long it takes.

Pure arithmetic, by the rules of the loop: rows that end take the next prompt, and B follows those that go on.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from orthrus.batch.arrangement import row_count
from orthrus.batch.scheduler import REFILL_SHARE
from orthrus.prediction.cycle_costs import CycleCosts
from orthrus.prediction.trace import Trace


@dataclass(frozen=True)
class Outcome:
    """A simulated decoding. seconds: of all steps, prefills included; cycle_seconds: of cycles alone.

    cycles: steps; row_cycles: cycles in which a row took part, summed over rows, as accepted is.
    """

    new_tokens: int
    seconds: float
    cycle_seconds: float
    cycles: int
    row_cycles: int
    accepted: int
    answers: int

    @property
    def tokens_per_second(self) -> float:
        """New tokens over seconds."""
        return self.new_tokens / self.seconds if self.seconds > 0 else 0.0

    @property
    def tokens_per_cycle(self) -> float | None:
        """Tokens committed by cycles over cycles, bonus included, pooled; None without cycles."""
        return (self.new_tokens - self.answers) / self.row_cycles if self.row_cycles else None

    @property
    def accepted_length(self) -> float | None:
        """The mean accepted drafts a cycle, bonus excluded, pooled; None without cycles."""
        return self.accepted / self.row_cycles if self.row_cycles else None

    @property
    def mean_cycle_seconds(self) -> float | None:
        """The mean seconds of a cycle; None without cycles."""
        return self.cycle_seconds / self.cycles if self.cycles else None


class _Row:
    """One row that goes on: its trace, and how many new tokens it has."""

    def __init__(self, trace: Trace) -> None:
        self.trace = trace
        self.place = 1  # the prefill's own token

    @property
    def live(self) -> bool:
        return self.place < self.trace.new_tokens


class Simulation:
    """Decode traces, `batch` at a time. most: of the drafts of a row; moves: whether B may follow the rows."""

    def __init__(
        self, traces: Sequence[Trace], batch: int, costs: CycleCosts, most: int | None = None, moves: bool = True
    ) -> None:
        self._traces = [trace for trace in traces if trace.new_tokens]
        self._capacity = min(batch, max(1, len(traces)))
        self._costs, self._most, self._moves = costs, most, moves
        self._live: list[_Row] = []
        self._waiting = deque(self._traces)
        self._prefill_seconds = self._cycle_seconds = 0.0
        self._cycles = self._row_cycles = self._accepted = 0
        self._known: dict[
            tuple[int, int, bool], float
        ] = {}  # seconds of a cycle, by rows, drafts, whether it is a tree

    def run(self) -> Outcome:
        """Return what the whole decoding takes."""
        changed, rows = True, self._capacity
        while self._live or self._waiting:
            if changed and self._moves:
                rows = row_count(len(self._live) + len(self._waiting), self._capacity)
            count = self._refilled(rows) if changed else 0
            changed = self._prefill(count) if count else self._cycle(rows)
        return Outcome(
            sum(trace.new_tokens for trace in self._traces),
            self._prefill_seconds + self._cycle_seconds,
            self._cycle_seconds,
            self._cycles,
            self._row_cycles,
            self._accepted,
            len(self._traces),
        )

    def _refilled(self, rows: int) -> int:
        """Return how many prompts a prefill takes now: with many rows it waits until a share of them is free."""
        free = rows - len(self._live)
        ready = free and free >= min(len(self._waiting), rows // REFILL_SHARE)
        return min(free, len(self._waiting)) if ready else 0

    def _prefill(self, count: int) -> bool:
        self._prefill_seconds += self._costs.prefilling(count)
        rows = [_Row(self._waiting.popleft()) for _ in range(count)]
        self._live += [row for row in rows if row.live]
        return True

    def _cycle(self, rows: int) -> bool:
        """Let every live row take its draft; return whether any ended."""
        drafts = [row.trace.at(row.place, self._most) for row in self._live]
        tree = any(row.place in row.trace.trees for row in self._live)
        self._cycle_seconds += self._seconds(rows, max(drafted for drafted, _ in drafts), tree)
        self._cycles += 1
        for row, (_, accepted) in zip(self._live, drafts, strict=True):
            row.place += accepted + 1
            self._row_cycles += 1
            self._accepted += accepted
        before = len(self._live)
        self._live = [row for row in self._live if row.live]
        return len(self._live) < before

    def _seconds(self, rows: int, drafts: int, tree: bool) -> float:
        key = rows, drafts, tree
        if key not in self._known:
            self._known[key] = self._costs.cycle(rows, drafts, tree)
        return self._known[key]
