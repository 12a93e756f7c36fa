"""Refusals of models that need more than a backend computes."""

from __future__ import annotations

from torch import Tensor

from orthrus import BuildError


def refuse(name: str, softcap: float | None, sinks: Tensor | None) -> None:
    """Raise BuildError for soft-capped scores or sinks, which the backend of this name has not."""
    if softcap is not None or sinks is not None:
        what = "soft-capped scores" if softcap is not None else "attention sinks"
        raise BuildError(f"attention '{name}' has no {what}, which this model needs; set attention.name=eager")
