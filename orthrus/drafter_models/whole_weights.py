"""The weights of a target as a whole, which processes may share: passes of drafters are counted by them."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from orthrus.optional import MeasuredTarget


@runtime_checkable
class CountsWeights(Protocol):
    """A target that tells how much its weights are as a whole, where this process may hold a part of them alone."""

    def weight_bytes(self) -> int:
        """Return the bytes of weights that one pass must read, those that other processes hold included."""


def weight_bytes_of(target: object) -> int | None:
    """Return the bytes of weights that one pass over a target must read, in all processes; None: it does not tell."""
    if isinstance(target, CountsWeights):
        return target.weight_bytes()
    return target.pass_bytes([]) if isinstance(target, MeasuredTarget) else None
