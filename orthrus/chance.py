"""The only source of randomness: every random choice of a drafter or verifier is asked of a Chance."""

from __future__ import annotations

import torch
from torch import Tensor

SMALLEST = 1e-300  # an exponential number of 0 would make the unlikeliest token win


class Chance:
    """Draw from a generator of its own, so that the same seed gives the same choices."""

    def __init__(self, seed: int, device: torch.device | str = "cpu") -> None:
        self._generator = torch.Generator(device=device).manual_seed(seed)

    def categorical(self, probabilities: Tensor) -> Tensor:
        """Return an index [...] drawn from each distribution of probabilities [..., V], which need not sum to one.

        Each probability is divided by an exponential number, and the largest quotient wins: no scan, no host sync.
        In float32 such numbers are too coarse near 0: of a large vocabulary, unlikely tokens would win too often.
        """
        precise = torch.float32 if probabilities.device.type == "mps" else torch.float64
        race = torch.empty(probabilities.shape, dtype=precise, device=probabilities.device)
        race.exponential_(generator=self._generator).clamp_(min=SMALLEST if precise == torch.float64 else 1e-38)
        return torch.div(probabilities, race, out=race).argmax(-1)
