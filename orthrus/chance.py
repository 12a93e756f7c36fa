"""The only source of randomness: every random choice of a drafter or verifier is asked of a Chance.

Gumbel noise is a function: the same for the same seed, request, position and token, whenever and wherever it is asked.
SplitMix64 (Steele, Lea and Flood, 2014) in integers of 64 bits, which wrap: the same on every device. B: rows, n:
places, V: size of the vocabulary.
"""

from __future__ import annotations

from hashlib import blake2b

import torch
from torch import Tensor

from orthrus.machine import precise

GOLDEN = 0x9E3779B97F4A7C15 - 2**64  # as a signed integer, like the two factors below
FACTORS = (0xBF58476D1CE4E5B9 - 2**64, 0x94D049BB133111EB - 2**64)
BITS = {torch.float64: 52, torch.float32: 23}  # of a uniform number: with half a step added exact, and neither 0 nor 1


class Chance:
    """Draw from a generator of its own, so that the same seed gives the same choices. seed: of the noise, too."""

    def __init__(self, seed: int, device: torch.device | str = "cpu") -> None:
        self.seed = seed
        self._generator = torch.Generator(device=device).manual_seed(seed)

    def categorical(self, probabilities: Tensor) -> Tensor:
        """Return an index [...] drawn from each distribution of probabilities [..., V], which need not sum to one.

        Each probability is divided by an exponential number, and the largest quotient wins: no scan, no host sync.
        In float32 such numbers are too coarse near 0 for the many unlikely tokens of a large vocabulary.
        """
        dtype = precise(probabilities.device)
        race = torch.empty(probabilities.shape, dtype=dtype, device=probabilities.device)
        race.exponential_(generator=self._generator).clamp_(min=torch.finfo(dtype).tiny)  # at 0, anything would win
        return torch.div(probabilities, race, out=race).argmax(-1)

    def gumbel(self, keys: Tensor, positions: Tensor, vocabulary_size: int) -> Tensor:
        """Return Gumbel noise [B, n, V], float32, for the requests of `context.keys` [B] at positions [B, n].

        It is a function of seed, key, position and token: whoever asks again, in whatever batch, gets the same. The
        argmax of logits / temperature + noise is drawn from their softmax. positions: where the drawn token will stand
        in its row, the prompt counted. On `mps` it is coarser, as there is no float64.
        """
        return gumbel(self.seed, keys, positions, vocabulary_size)


def request_key(id: str) -> int:
    """Return the number by which a request's noise is keyed: of its id alone, not of its place in a batch."""
    return int.from_bytes(blake2b(id.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little", signed=True)


def seeded_key(key: int, seed: int, shared: int) -> int:
    """Return the key with which a chance of the shared seed makes the noise that one of `seed` makes of the key."""
    if seed == shared:
        return key
    own, other = (int(_mix(torch.tensor([number]))) for number in (_signed(seed), _signed(shared)))
    return _signed(key + own - other)


def _signed(number: int) -> int:
    """Return an integer of 64 bits as they are read with a sign."""
    return (number + 2**63) % 2**64 - 2**63


def gumbel(seed: int, keys: Tensor, positions: Tensor, vocabulary_size: int) -> Tensor:
    """Return Gumbel noise [B, n, V] in float32 for requests' keys [B] and positions [B, n], all int64.

    Logarithms are taken in float64, so that rounding to float32 hides in what devices and kernels differ there.
    """
    start = _mix(_mix(torch.full_like(keys, seed)).add_(keys))[:, None]  # [B, 1]
    streams = _mix(start + positions)[..., None]  # [B, n, 1]
    tokens = torch.arange(vocabulary_size, device=keys.device).mul_(GOLDEN)  # [V]
    dtype = precise(keys.device)
    bits = _shifted(_finish(streams + tokens), 64 - BITS[dtype])
    uniform = bits.to(dtype).add_(0.5).mul_(2.0 ** -BITS[dtype])
    return uniform.log_().neg_().log_().neg_().float()


def _mix(state: Tensor) -> Tensor:
    return _finish(state.add_(GOLDEN))


def _finish(state: Tensor) -> Tensor:
    """Return the finalizer of SplitMix64, in place."""
    for shift, factor in zip((30, 27), FACTORS, strict=True):
        state.bitwise_xor_(_shifted(state, shift)).mul_(factor)
    return state.bitwise_xor_(_shifted(state, 31))


def _shifted(state: Tensor, places: int) -> Tensor:
    """Return the unsigned right shift."""
    return (state >> places).bitwise_and_((1 << (64 - places)) - 1)
