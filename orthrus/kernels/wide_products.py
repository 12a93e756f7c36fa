"""Products of more tokens by the GPU's own library, where its float32 sums have the bits of the kernels for few tokens.

Tensor cores add up a token's products in the order of the inputs by either, unless the library splits that sum, which
it does for few tokens and many inputs. Which algorithm it takes depends on the shape. So each shape is compared once,
on random tokens, before it is used: every sum must be the same to the bit. Behind such sums kernels of
`triton_wide_products` do what those for few tokens do behind their own: norm, residual, gate.
M: tokens, N: outputs, K: inputs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from orthrus.kernels.launch import UNFUSED
from orthrus.kernels.normed import Normed, norm_arguments
from orthrus.kernels.tiles import EVEN, SMALL_WIDTH

Product = Callable[[Tensor, Tensor], Tensor]

FEWEST_TOKENS = 65  # of fewer, the kernels that do everything at once are as fast or faster
MOST_SUMS = 2**28  # numbers of float32 that are in memory at a time
ALIGNMENT = 256  # bytes; the library may take another algorithm for what lies otherwise
COLUMNS, ROWS, NUMBERS = 1024, 8, 4096  # at most, of a program of the kernels behind the product


def sums(hidden: Tensor, weight: Tensor, few: Product) -> Tensor | None:
    """Return hidden [B, n, K] times weight [N, K] transposed, in float32 [M, N]; None: its bits could be others.

    few: what gives the same of a few tokens, [B, n, N], by the kernels for them.
    """
    outputs, inputs = weight.shape
    tokens = hidden.numel() // inputs
    large = inputs > SMALL_WIDTH and inputs % EVEN == 0 and outputs % EVEN == 0
    if not large or not FEWEST_TOKENS <= tokens <= MOST_SUMS // outputs:
        return None
    if (hidden.data_ptr() | weight.data_ptr()) % ALIGNMENT:
        return None
    reduced = torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction
    shape = Shape(hidden.device, tokens, outputs, inputs, str(reduced))
    try:
        if not _has_the_bits(shape, few):
            return None
    except torch.OutOfMemoryError:  # which the kernels may do without
        return None
    return _product(hidden.reshape(tokens, inputs), weight)


def _product(hidden: Tensor, weight: Tensor) -> Tensor:
    return torch.mm(hidden, weight.t(), out_dtype=torch.float32)


@dataclass(frozen=True)
class Shape:
    """What the library chooses an algorithm by."""

    device: torch.device
    tokens: int
    outputs: int
    inputs: int
    reduced: str  # whether sums of 16 bits are allowed


@lru_cache(maxsize=4096)
def _has_the_bits(shape: Shape, few: Product) -> bool:
    """Tell whether the library's sums of a shape are those of the kernels for few tokens."""
    generator = torch.Generator(shape.device).manual_seed(0)
    hidden, weight = (
        torch.randn(count, shape.inputs, generator=generator, device=shape.device, dtype=torch.bfloat16)
        for count in (shape.tokens, shape.outputs)
    )
    return torch.equal(_product(hidden, weight), few(hidden[None], weight)[0])


def scaled(sums: Tensor, normed: Normed, inputs: int, epsilon: float, out: Tensor | None = None) -> Tensor:
    """Return [B, n, N]: the sums [M, N] of a state of so many inputs, as its norm scales them; out: where it goes."""
    from orthrus.kernels import triton_wide_products as kernels

    out = normed.hidden.new_empty(*normed.hidden.shape[:2], sums.shape[1]) if out is None else out
    return _behind_a_norm(kernels.scaled, sums, normed, inputs, epsilon, out)


def gated(sums: Tensor, normed: Normed, inputs: int, epsilon: float) -> Tensor:
    """Return silu(gate) * up [B, n, I] of the sums [M, 2 I] of a state of so many inputs, the gates in front."""
    from orthrus.kernels import triton_wide_products as kernels

    out = normed.hidden.new_empty(*normed.hidden.shape[:2], sums.shape[1] // 2)
    return _behind_a_norm(kernels.gated, sums, normed, inputs, epsilon, out)


def _behind_a_norm(kernel: Any, sums: Tensor, normed: Normed, inputs: int, epsilon: float, out: Tensor) -> Tensor:
    """Let a kernel write what it makes of the sums to out [B, n, N], and return that."""
    tokens, outputs = sums.shape[0], out.shape[2]
    kernel[grid_of(tokens, outputs)](
        sums,
        normed.parts,
        out,
        tokens,
        normed.stride,
        epsilon,
        N=outputs,
        **norm_arguments(normed, inputs),
        **tile_of(outputs),
    )
    return out


def added(sums: Tensor, residual: Tensor, norm: Tensor | None, room: Normed) -> None:
    """Add sums [M, E] to the residual [B, n, E] in place; make it ready for a norm with weight [E], written to room."""
    from orthrus.kernels import triton_wide_products as kernels

    tokens, outputs = sums.shape
    kernels.added[grid_of(tokens, outputs)](
        sums,
        residual,
        norm,
        room.gained,
        room.parts,
        tokens,
        room.stride,
        N=outputs,
        NORMED=norm is not None,
        **tile_of(outputs),
    )


def tile_of(outputs: int) -> dict[str, Any]:
    """Return the tile and the warps of the kernels behind a product of so many outputs."""
    columns = COLUMNS
    while outputs % columns:
        columns //= 2
    return {"BM": max(1, min(ROWS, NUMBERS // columns)), "BN": columns, "num_warps": 8, **UNFUSED}


def grid_of(tokens: int, outputs: int) -> tuple[int, int]:
    """Return the programs of those kernels."""
    tile = tile_of(outputs)
    return -(-tokens // tile["BM"]), outputs // tile["BN"]
