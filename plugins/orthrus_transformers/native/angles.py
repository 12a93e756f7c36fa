"""Rotary angles: a table of cosines and sines that grows with the longest text, made by the model's own module."""

from __future__ import annotations

from typing import Any

import torch

from orthrus_transformers.model.patching import own_forward

FIRST = 512  # positions


class AngleTable:
    """Cosines and sines [P, D / 2] of the positions up to P."""

    def __init__(self, rotary: Any, most: int | None) -> None:
        """Make an empty table; most: positions that the model can take."""
        self._rotary = rotary
        self._most = most
        self.cosines = self.sines = torch.empty(0, rotary.inv_freq.numel())

    def hold(self, positions: int) -> None:
        """Have the angles of so many positions, or of all that the model can take."""
        wanted = min(positions, self._most or positions)
        if wanted <= len(self.cosines):
            return
        count = max(FIRST, 1 << (wanted - 1).bit_length())
        count = min(count, self._most or count)
        half = self._rotary.inv_freq.numel()
        cosines, sines = own_forward(self._rotary)(torch.zeros(1), torch.arange(count)[None])  # [1, P, D] each
        self.cosines, self.sines = (angles[0, :, :half].float().contiguous() for angles in (cosines, sines))
