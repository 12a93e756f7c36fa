"""Counts of what was decoded since they were last sent."""

from __future__ import annotations

from orthrus import Tally
from orthrus_serve.decoding.messages import Statistics


class Counters:
    """Counts since the last statistics; tally: the session's own, of tokens and drafts."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self.left = False  # whether a request has gone that has no token to show for it
        self.prompt_tokens = 0

    @property
    def changed(self) -> bool:
        """Whether there is news."""
        return self.left or self._tally.tokens > 0

    def take(self, running: int, waiting: int, cache_tokens: int, cache_bytes: int) -> Statistics:
        """Return the counts beside the present state, and begin anew."""
        totals = self._tally.take()
        taken = Statistics(
            running,
            waiting,
            cache_tokens,
            cache_bytes,
            self.prompt_tokens,
            totals.tokens,
            totals.drafts,
            totals.drafted,
            totals.accepted,
            totals.accepted_at,
            totals.gaps,
        )
        self.left, self.prompt_tokens = False, 0
        return taken
