"""Results of a benchmark: frozen values, written as JSON and read back, so that a report can be made anywhere."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

FORMAT = "orthrus-bench 1"


@dataclass(frozen=True)
class Spread:
    """Repeated measurements of one quantity; median, low and high are what tables show."""

    values: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.values:
            raise ValueError("a spread of no values")

    @property
    def median(self) -> float:
        """The middle of the values."""
        return statistics.median(self.values)

    @property
    def low(self) -> float:
        """The lowest value."""
        return min(self.values)

    @property
    def high(self) -> float:
        """The highest value."""
        return max(self.values)


@dataclass(frozen=True)
class Phases:
    """The mean seconds of a steady cycle's parts, from the end of one cycle's keep to the end of the next.

    draft: the drafter's propose and observe. score: the target's pass. verify: the verifier. commit: from there to the
    end of keep, the host sync included. other: what is in none of them, the host's loop among it.
    On a GPU they are taken between events on its stream, so a part's time holds the gaps in which the GPU waits for it.
    """

    draft: float
    score: float
    verify: float
    commit: float
    other: float


@dataclass(frozen=True)
class Run:
    """The measurements of one subject, a decoder or a baseline, at one point of the sweep.

    point: the swept keys and their values, such as {"batch": 8, "context": 512, "drafter.block": 16}.
    tokens_per_second: new tokens of all prompts over the round's seconds, one value a round. ratio: the same over the
    reference's (the subject in `settings["against"]`, unless chosen otherwise the first) in the same round at the same
    point. ttft_seconds, cycle_seconds: one value a round, the mean of its prompts or cycles; a cycle is everything
    between two commits. The ratios tokens_per_cycle, accepted_length and tpf are (pooled, per prompt).
    identical: share of the answers of all rounds whose tokens equal the reference's. peak_memory_bytes: the most that
    was allocated on the device while it ran, weights included, other subjects' memory not. pass_bytes: what one verify
    pass must read, weights and keys; bandwidth_share: pass_bytes over the measured copy bandwidth, over the time of a
    pass, phases.score. engine: what the target says of what runs its passes, such as the CUDA graphs it holds. What a
    subject cannot tell is None; error: the one sentence of a subject that could not run.
    """

    label: str
    kind: str  # "decoder" or "baseline"
    point: Mapping[str, Any]
    prompts: int = 0
    new_tokens: int = 0
    tokens_per_second: Spread | None = None
    ratio: Spread | None = None
    ttft_seconds: Spread | None = None
    cycle_seconds: Spread | None = None
    tokens_per_cycle: tuple[float, float] | None = None
    accepted_length: tuple[float, float] | None = None
    tpf: tuple[float, float] | None = None
    identical: float | None = None
    phases: Phases | None = None
    peak_memory_bytes: int | None = None
    pass_bytes: int | None = None
    bandwidth_share: float | None = None
    engine: Mapping[str, Any] | None = None
    error: str | None = None


@dataclass(frozen=True)
class Results:
    """One benchmark: the exact command, what it ran on, its settings, and its runs in the order of the sweep.

    environment: device, versions, threads, and `copy_bandwidth` in bytes/s, read plus written. settings: model, dtype,
    prompts, limits, rounds. title: what a report calls it; note: a sentence below its table.
    """

    title: str
    command: str
    date: str
    environment: Mapping[str, Any]
    settings: Mapping[str, Any]
    runs: tuple[Run, ...] = field(default_factory=tuple)
    note: str = ""

    @property
    def swept(self) -> list[str]:
        """The keys of all points, in the order in which they first come."""
        return list(dict.fromkeys(key for run in self.runs for key in run.point))
