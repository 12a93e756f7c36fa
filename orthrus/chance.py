"""The only source of randomness: every random choice of a drafter or verifier is asked of a Chance."""

from __future__ import annotations

import torch
from torch import Tensor

from orthrus import noise


class Chance:
    """Draw from a generator of its own, so that the same seed gives the same choices."""

    def __init__(self, seed: int, device: torch.device | str = "cpu") -> None:
        self._seed = seed
        self._generator = torch.Generator(device=device).manual_seed(seed)

    def categorical(self, probabilities: Tensor) -> Tensor:
        """Return an index [...] drawn from each distribution of probabilities [..., V], which need not sum to one.

        Each probability is divided by an exponential number, and the largest quotient wins: no scan, no host sync.
        In float32 such numbers are too coarse near 0 for the many unlikely tokens of a large vocabulary.
        """
        dtype = noise.precise(probabilities.device)
        race = torch.empty(probabilities.shape, dtype=dtype, device=probabilities.device)
        race.exponential_(generator=self._generator).clamp_(min=torch.finfo(dtype).tiny)  # at 0, anything would win
        return torch.div(probabilities, race, out=race).argmax(-1)

    def gumbel(self, keys: Tensor, positions: Tensor, vocabulary_size: int) -> Tensor:
        """Return Gumbel noise [B, n, V], float32, for the requests of `context.keys` [B] at positions [B, n].

        It is a function of seed, key, position and token: whoever asks again, in whatever batch, gets the same. The
        argmax of logits / temperature + noise is drawn from their softmax. positions: where the drawn token will stand
        in its row, the prompt counted. On `mps` it is coarser, as there is no float64.
        """
        return noise.gumbel(self._seed, keys, positions, vocabulary_size)
