"""The choice of who drafts in a cycle: the most tokens expected for what it costs. Pure: no torch and no clock."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

from orthrus_cascade.evidence import CycleState, Evidence

NOBODY = -1  # plain decoding
PLAIN_PASSES = 1.0  # of a cycle without drafts


class Choice:
    """Hold drafters, by number, against one another and against plain decoding, for all rows of a cycle together.

    cost: of a cycle, in seconds or in passes. Who has drafted in few cycles so far, of so many rows if seconds count,
    comes first: only then is its cost known.
    """

    def __init__(self, drafters: int, cost: Literal["seconds", "passes"]) -> None:
        self._evidence = {number: Evidence() for number in range(drafters)}
        self._plain = Evidence()
        self._timed = cost == "seconds"

    def start(self, rows: Sequence[int]) -> None:
        """Forget what was known of these rows, which have new prompts."""
        for evidence in self._evidence.values():
            evidence.start(rows)

    def move_rows(self, sources: Sequence[int]) -> None:
        """Take what is known of the rows along (see `MovesRows`)."""
        for evidence in self._evidence.values():
            evidence.move_rows(sources)

    def best(self, live: Sequence[int], state: CycleState, drafted: Mapping[int, Sequence[int]]) -> int:
        """Return whose draft is worth most, of equals the first; NOBODY if plain decoding is.

        live: the rows that go on. drafted: by number for which of them a drafter had something, of those that were
        asked in this cycle; the others are taken to have something for all.
        """
        worth = {number: self._worth(number, live, state, drafted.get(number, live)) for number in self._evidence}
        worth[NOBODY] = self._worth_of_nothing(live, state.rows)
        return max(worth, key=lambda number: worth[number])

    def observe(
        self,
        number: int,
        accepted: Sequence[tuple[int, int]],
        state: CycleState,
        width: int,
        passes: float,
        seconds: float,
    ) -> None:
        """Note a cycle in which a drafter, or NOBODY, drafted, how widely, and what it took.

        accepted: pairs of a row that was drafted for and how many tokens were accepted.
        """
        self._plain.fade()
        for evidence in self._evidence.values():
            evidence.fade()
        if number == NOBODY:
            self._plain.cost(state, width, passes, seconds)
        elif accepted:
            self._evidence[number].accepted(accepted)
            self._evidence[number].cost(state, width, passes, seconds)

    def _worth(self, number: int, live: Sequence[int], state: CycleState, drafted: Sequence[int]) -> float:
        """Return the tokens expected of a cycle over what it costs."""
        if not drafted:
            return -math.inf
        evidence = self._evidence[number]
        cost = evidence.seconds(state) if self._timed else evidence.passes()
        return math.inf if cost is None else (len(live) + sum(map(evidence.expected, drafted))) / cost

    def _worth_of_nothing(self, live: Sequence[int], rows: int) -> float:
        """Return what plain decoding is worth: in the cycles after this one, for which nothing is launched then."""
        cost = self._plain.seconds(CycleState(rows, launched=False)) if self._timed else PLAIN_PASSES
        return math.inf if cost is None else len(live) / cost
