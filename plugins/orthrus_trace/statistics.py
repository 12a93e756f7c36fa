"""Statistics of a trace: how often drafts are accepted by their position, and where the time went."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from orthrus_trace.trace_file import PARTS, Trace, TracedStep


@dataclass(frozen=True)
class Position:
    """The drafts at one position, from 1: in how many cycles there were any, and in how many one was accepted.

    The position of a token of a tree is its depth; tokens of one depth are alternatives, and count as one.
    """

    number: int
    drafted: int
    accepted: int

    @property
    def share(self) -> float:
        """Accepted over drafted."""
        return self.accepted / self.drafted


@dataclass(frozen=True)
class Totals:
    """Sums over all requests. cycles: of each request, so that a step of several rows counts for each of them."""

    requests: int
    prefills: int
    steps: int
    cycles: int
    drafted: int
    accepted: int
    new_tokens: int
    seconds: float

    @property
    def accepted_length(self) -> float | None:
        """Accepted drafts a cycle; None without cycles."""
        return self.accepted / self.cycles if self.cycles else None


def cycles_of(trace: Trace) -> list[TracedStep]:
    """Return the cycles of all requests."""
    return [step for request in trace.requests for step in request.cycles]


def positions(cycles: Sequence[TracedStep]) -> list[Position]:
    """Return the acceptance of drafts by their position; a draft behind a refused one counts as refused."""
    longest = max((cycle.longest for cycle in cycles), default=0)
    return [
        Position(
            number,
            sum(cycle.longest >= number for cycle in cycles),
            sum(cycle.accepted >= number for cycle in cycles),
        )
        for number in range(1, longest + 1)
    ]


def seconds_by_part(trace: Trace) -> dict[str, float]:
    """Return the seconds of all steps by part."""
    return {part: sum(seconds[part] for seconds in trace.seconds) for part in PARTS}


def totals(trace: Trace) -> Totals:
    """Return the sums over a trace."""
    cycles = cycles_of(trace)
    return Totals(
        requests=len(trace.requests),
        prefills=sum(trace.prefills),
        steps=len(trace.prefills) - sum(trace.prefills),
        cycles=len(cycles),
        drafted=sum(len(cycle.drafted) for cycle in cycles),
        accepted=sum(cycle.accepted for cycle in cycles),
        new_tokens=sum(len(step.committed) for request in trace.requests for step in request.steps),
        seconds=sum(seconds_by_part(trace).values()),
    )


def along_text(cycles: Sequence[TracedStep]) -> list[tuple[int, int, int, int]]:
    """Return for each cycle of a request where its tokens begin in the answer, their number, drafts and accepted ones.

    The first token is the prefill's. Of a tree the drafts are those of its longest path.
    """
    placed, place = [], 1
    for cycle in cycles:
        placed.append((place, len(cycle.committed), cycle.longest, cycle.accepted))
        place += len(cycle.committed)
    return placed
