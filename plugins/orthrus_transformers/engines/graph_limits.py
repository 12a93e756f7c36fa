"""Bounds of CUDA graphs; imports no torch, as options have their defaults from here."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class GraphLimits:
    """Bound what CUDA graphs may cost; strict: a pass that cannot be captured is an error, not run uncaptured."""

    # A block of 32 has passes of 31 widths at the end of answers, drafted and scored; prefills have a few widths more.
    graphs: int = 128
    tokens: int = 4096
    megabytes: int = 2048
    strict: bool = False
