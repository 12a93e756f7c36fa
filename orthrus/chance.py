"""The only source of randomness: every random choice of a drafter or verifier is asked of a Chance."""

from __future__ import annotations

import torch
from torch import Tensor


class Chance:
    """Draw from a generator of its own, so that the same seed gives the same choices."""

    def __init__(self, seed: int, device: torch.device | str = "cpu") -> None:
        self._generator = torch.Generator(device=device).manual_seed(seed)

    def categorical(self, probabilities: Tensor) -> Tensor:
        """Return an index [...] drawn from each distribution of probabilities [..., V]."""
        flat = probabilities.reshape(-1, probabilities.shape[-1])
        drawn = torch.multinomial(flat, 1, generator=self._generator)
        return drawn.reshape(probabilities.shape[:-1])
