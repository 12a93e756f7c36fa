"""Abilities of verifiers: choices that noise decides."""

from __future__ import annotations

from typing import Protocol, runtime_checkable


@runtime_checkable
class CoupledVerifier(Protocol):
    """A verifier that says whether its choices are those of the noise of seed, request and position, and no others."""

    coupled: bool


def is_coupled(verifier: object) -> bool:
    """Tell whether a verifier takes the choices that noise decides."""
    return isinstance(verifier, CoupledVerifier) and verifier.coupled
