"""Counts of what was decoded since they were last sent."""

from __future__ import annotations

from collections import Counter

from orthrus import Event
from orthrus_serve.decoding.messages import Statistics


class Counters:
    """Counts since the last statistics."""

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self.changed = False
        self.prompt_tokens = self.generated_tokens = 0
        self.drafts = self.drafted_tokens = self.accepted_tokens = 0
        self.accepted_at: list[int] = []
        self.gaps = Counter[float]()  # few, as the rows of a step have the same

    def add(self, event: Event, gap: float | None) -> None:
        """Count an event; gap: seconds since the same answer's last one."""
        self.changed = True
        self.generated_tokens += len(event.token_ids)
        if gap is not None:
            self.gaps[gap] += 1
        if event.drafted:
            self.drafts += 1
            self.drafted_tokens += event.drafted
            self.accepted_tokens += event.accepted
            self.accepted_at += [0] * (event.accepted - len(self.accepted_at))
            for position in range(event.accepted):
                self.accepted_at[position] += 1

    def take(self, running: int, waiting: int, cache_tokens: int, cache_bytes: int) -> Statistics:
        """Return the counts beside the present state, and begin anew."""
        taken = Statistics(
            running,
            waiting,
            cache_tokens,
            cache_bytes,
            self.prompt_tokens,
            self.generated_tokens,
            self.drafts,
            self.drafted_tokens,
            self.accepted_tokens,
            tuple(self.accepted_at),
            tuple(self.gaps.items()),
        )
        self._begin()
        return taken
