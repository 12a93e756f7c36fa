"""Quantization of keys and values: codes of 8 bits, and a scale for each group of numbers of a head.

A group lies within one token's head, so that what a token is rounded to depends on nothing else: not on the pass that
it comes in, nor on its neighbours. D: size of a head, G: groups of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

SCALE_DTYPE = torch.bfloat16  # the range of float32, so that nothing overflows; that it is coarse costs next to nothing


@dataclass(frozen=True)
class CodeFormat:
    """A format of codes. largest: the largest number that a code stands for, in units of the scale."""

    dtype: torch.dtype
    largest: float

    def encode(self, scaled: Tensor) -> Tensor:
        """Return the codes of numbers in units of their scale, as bytes: few operations know 8-bit floats."""
        bounded = scaled.clamp(-self.largest, self.largest)
        if self.dtype == torch.int8:
            bounded = bounded.round()
        return bounded.to(self.dtype).view(torch.uint8)

    def decode(self, codes: Tensor, dtype: torch.dtype) -> Tensor:
        """Return the numbers that codes stand for, in units of their scale."""
        return codes.view(self.dtype).to(dtype)


FORMATS: Mapping[str, CodeFormat] = {
    "int8": CodeFormat(torch.int8, 127.0),
    "fp8": CodeFormat(torch.float8_e4m3fn, 448.0),
}


def quantize(states: Tensor, group: int, code_format: CodeFormat) -> tuple[Tensor, Tensor]:
    """Return codes [..., D] and scales [..., G] of states [..., D]; group: numbers that share a scale, at most.

    What is not finite makes the scale of its group so, and the group comes back as not finite.
    """
    size = states.shape[-1]
    padded = pad(states.float(), (0, -size % group))
    grouped = padded.view(*padded.shape[:-1], -1, group)  # [..., G, group]
    scales = (grouped.abs().amax(-1) / code_format.largest).to(SCALE_DTYPE)  # [..., G]
    units = torch.where(scales == 0, 1.0, scales.float())[..., None]
    return code_format.encode((grouped / units).flatten(-2)[..., :size]), scales


def dequantize(codes: Tensor, scales: Tensor, group: int, code_format: CodeFormat, dtype: torch.dtype) -> Tensor:
    """Return the states [..., D] that codes [..., D] and scales [..., G] stand for."""
    size = codes.shape[-1]
    computed = torch.float32 if dtype == torch.float16 else dtype  # which has not the range of the scales
    states = code_format.decode(codes, computed)
    if size % group == 0:
        states.view(*states.shape[:-1], -1, group).mul_(scales.to(computed)[..., None])
    else:
        states.mul_(scales.to(computed).repeat_interleave(group, dim=-1)[..., :size])
    return states.to(dtype)
