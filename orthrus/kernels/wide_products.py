"""Products of more tokens by the GPU's own library, where its float32 sums have the bits of the kernels for few tokens.

Tensor cores add up a token's products in the order of the inputs by either, unless the library splits that sum, which
it does for few tokens and many inputs. Which algorithm it takes depends on the shape. So each shape is compared once,
on random numbers, before it is used: all sums of the first tokens and of the last must be the same to the bit. M:
tokens, N: outputs, K: inputs.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from orthrus.kernels.tiles import EVEN, SMALL_WIDTH

Product = Callable[[Tensor, Tensor], Tensor]

FEWEST_TOKENS = 65  # of fewer, the kernels that do everything at once are as fast or faster
COMPARED = 16  # tokens at either end
ALIGNMENT = 256  # bytes; the library may take another algorithm for what lies otherwise
COLUMNS, ROWS, NUMBERS = 1024, 8, 4096  # at most, of a program of the kernels behind the product


def sums(hidden: Tensor, weight: Tensor, few: Product) -> Tensor | None:
    """Return hidden [B, n, K] times weight [N, K] transposed, in float32 [M, N]; None: its bits could be others.

    few: what gives the same of a few tokens, [B, n, N], by the kernels for them.
    """
    outputs, inputs = weight.shape
    tokens = hidden.numel() // inputs
    large = inputs > SMALL_WIDTH and inputs % EVEN == 0 and outputs % EVEN == 0
    if tokens < FEWEST_TOKENS or not large or (hidden.data_ptr() | weight.data_ptr()) % ALIGNMENT:
        return None
    reduced = torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction
    if not _has_the_bits(few, hidden.device, tokens, outputs, inputs, reduced):
        return None
    return _product(hidden.reshape(tokens, inputs), weight)


def _product(hidden: Tensor, weight: Tensor) -> Tensor:
    return torch.mm(hidden, weight.t(), out_dtype=torch.float32)


@lru_cache(maxsize=4096)
def _has_the_bits(few: Product, device: torch.device, tokens: int, outputs: int, inputs: int, reduced: object) -> bool:
    """Tell whether the library's sums of this shape are those of the kernels for few tokens, by comparing some."""
    generator = torch.Generator(device).manual_seed(0)
    hidden, weight = (
        torch.randn(count, inputs, generator=generator, device=device, dtype=torch.bfloat16)
        for count in (tokens, outputs)
    )
    product = _product(hidden, weight)
    for part in (slice(None, COMPARED), slice(-COMPARED, None)):
        if not torch.equal(product[part], few(hidden[part].contiguous()[None], weight)[0]):
            return False
    return True


def tile_of(outputs: int) -> dict[str, Any]:
    """Return the tile and the warps of the kernels behind a product of so many outputs."""
    columns = COLUMNS
    while outputs % columns:
        columns //= 2
    return {"BM": max(1, min(ROWS, NUMBERS // columns)), "BN": columns, "num_warps": 8}


def grid_of(tokens: int, outputs: int) -> tuple[int, int]:
    """Return the programs of those kernels."""
    tile = tile_of(outputs)
    return -(-tokens // tile["BM"]), outputs // tile["BN"]
