"""Probes of a drafter that is expected to lose, and the rests between them. Pure: no torch and no clock."""

from __future__ import annotations

import math
from collections.abc import Sequence

FIRST_BACKOFF, LONGEST_BACKOFF = 16, 64  # plain cycles between probes, for each plain cycle that a probe costs


class Probing:
    """The times at which something is drafted though plain decoding is expected to be quicker, as it may have changed.

    A probe costs more than a plain cycle; after one that changed nothing it rests, twice as long each time, until all
    probes together take no more than one plain cycle in LONGEST_BACKOFF. One that brought more than it cost is followed
    by another at once: a few drafts that happened to be wrong at first are soon forgotten then.
    """

    def __init__(self) -> None:
        self._accepted = False  # whether anything was accepted when last something was drafted
        self._stake = math.inf  # what the last probe cost, in plain cycles
        self._backoff = 0.0
        self._wait = 0

    @property
    def due(self) -> bool:
        """Whether the rest is over."""
        return not self._wait

    def observe(self, accepted: Sequence[int], rows: int) -> None:
        """Take note of how much of each row's draft was accepted; rows: how many had one."""
        self._accepted = any(accepted)
        if sum(accepted) > self._stake * rows:
            self._backoff, self._wait = 0.0, 0
        self._stake = math.inf

    def pays(self) -> None:
        """Take note that drafting is expected to pay again."""
        if self._accepted:  # only an accepted draft ends the back-off: before, the estimate is the prior
            self._backoff, self._wait = 0.0, 0

    def rest(self) -> None:
        """Take note of a plain cycle."""
        self._wait -= 1

    def begin(self, cost: float, tokens: float) -> None:
        """Take note of a probe: what it costs and brings, over what a plain cycle does."""
        excess = cost - tokens  # what it may lose, in plain cycles
        self._stake = cost - 1
        self._backoff = min(max(2 * self._backoff, FIRST_BACKOFF * excess), LONGEST_BACKOFF * excess)
        self._wait = math.ceil(self._backoff)
