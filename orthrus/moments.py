"""Moments of a decoding, and the seconds between them: of the host's clock, or of a CUDA device's stream.

A CUDA device's are events on its stream, which hold nothing up, and are read once the device has reached them.
Elsewhere they are the host's, which is true where the host waits for every operation, as on a CPU.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch

Clock = Callable[[], float]


@dataclass(frozen=True)
class Span:
    """The time span of a call: of which method or part, and from which moment to which."""

    method: str
    began: Any
    ended: Any


class Moments(Protocol):
    """Take moments, and tell the seconds between two that have passed."""

    def now(self) -> Any:
        """Return this moment."""

    def seconds(self, first: Any, last: Any) -> float:
        """Return the seconds from one moment to another."""


class HostMoments:
    """Moments of a clock of the host."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def now(self) -> float:
        """Return the clock's time."""
        return self._clock()

    def seconds(self, first: float, last: float) -> float:
        """Return the difference."""
        return last - first


class CudaMoments:
    """Events on a device's current stream."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def now(self) -> torch.cuda.Event:
        """Return an event that the device will reach."""
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]  # torch has no type for it
        event.record(torch.cuda.current_stream(self._device))
        return event

    def seconds(self, first: torch.cuda.Event, last: torch.cuda.Event) -> float:
        """Return the time between two events that the device has reached."""
        return float(first.elapsed_time(last)) / 1000


def moments_of(device: torch.device, clock: Clock = time.perf_counter) -> Moments:
    """Return what takes moments of what runs on a device; clock: the host's."""
    return CudaMoments(device) if device.type == "cuda" else HostMoments(clock)
