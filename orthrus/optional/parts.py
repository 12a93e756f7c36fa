"""Abilities of parts of any kind: a name, a report, a fingerprint of weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class Named(Protocol):
    """A part with a name of its own, which messages call it by."""

    name: str


def name_of(part: object) -> str:
    """Return what messages call a part: its name, or that of its class."""
    return part.name if isinstance(part, Named) else type(part).__name__


@runtime_checkable
class Reports(Protocol):
    """A target or drafter that tells `orthrus bench` what it is and what it chose."""

    def report(self) -> Mapping[str, Any]:
        """Return what runs the passes and what it holds, or what was chosen, as names and plain values."""


@runtime_checkable
class HasFingerprint(Protocol):
    """A target or drafter with weights, so that runs with other weights are told from its own."""

    def fingerprint(self) -> str:
        """Return what tells the weights from others, whatever dtype they are computed in."""
