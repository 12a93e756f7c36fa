"""Four-bit copies of weights, for passes that only propose tokens: in GGUF's blocks Q4_1. N: rows, I: columns."""

from __future__ import annotations

import torch
from torch import Tensor

BLOCK, LARGEST = 32, 15  # columns that share a scale and a minimum; the largest number of four bits
FITS = 2  # of scale and minimum to the numbers, each after a rounding
FOUR_BIT_KINDS = frozenset({2, 3, 12})  # Q4_0, Q4_1 and Q4_K, by GGUF's numbers
Q4_1 = 3


def four_bit_blocks(weight: Tensor) -> Tensor:
    """Return a weight [N, I] in blocks, as a GGUF file has them: bytes [N, I / 32 * 20]. I is a multiple of 32."""
    values = weight.detach().float().reshape(len(weight), -1, BLOCK)  # [N, I / 32, 32]
    minimum = values.amin(-1, keepdim=True)
    scale = (values.amax(-1, keepdim=True) - minimum) / LARGEST
    for _ in range(FITS):
        scale, minimum = _fitted(values, _numbers(values, scale, minimum), scale, minimum)
    scale, minimum = scale.half(), minimum.half()
    numbers = _numbers(values, scale.float(), minimum.float()).to(torch.uint8)
    nibbles = numbers[..., : BLOCK // 2] | numbers[..., BLOCK // 2 :] << 4
    return torch.cat([scale.view(torch.uint8), minimum.view(torch.uint8), nibbles], dim=-1).flatten(1)


def _numbers(values: Tensor, scale: Tensor, minimum: Tensor) -> Tensor:
    """Return the numbers from 0 to 15 that come nearest; a block of equal values has 0."""
    steps = torch.where(scale > 0, (values - minimum) / scale, 0.0)
    return steps.round().clamp(0, LARGEST)


def _fitted(values: Tensor, numbers: Tensor, scale: Tensor, minimum: Tensor) -> tuple[Tensor, Tensor]:
    """Return the scale and minimum with the least squared error for these numbers."""
    mean, centre = values.mean(-1, keepdim=True), numbers.mean(-1, keepdim=True)
    spread = (numbers - centre).square().sum(-1, keepdim=True)
    slope = ((numbers - centre) * (values - mean)).sum(-1, keepdim=True) / spread
    usable = (spread > 0) & (slope > 0)
    return torch.where(usable, slope, scale), torch.where(usable, mean - slope * centre, minimum)
