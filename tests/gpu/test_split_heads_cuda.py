"""On a CUDA device: the kernel that norms, rotates and places a layer's heads equals torch in float64."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from orthrus.kernels import skinny_linear
from orthrus.kernels.small_ops import split_heads

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
DEVICE = "cuda"
HEADS, SLOTS, UNTOUCHED = (3, 2), 400, 7.0
BEHIND = 8  # rows of the buffers where tokens that are not there would go
FEW = skinny_linear.MOST_INVARIANT_TOKENS
TOKENS = [  # rows and queries: of more tokens a program takes 8, and the last one has fewer where 8 is no divisor
    *((1, FEW), (1, FEW + 1), (1, FEW + 7), (1, FEW + 8), (1, 2 * FEW - 1)),
    *((5, FEW // 5 + 1), (2, FEW // 2 + 4), (FEW + 7, 1), (3, 7)),  # programs that take tokens of two rows or more
]
ROUNDING = {torch.float32: 1e-5, torch.bfloat16: 2**-8}  # once, at the end


@dataclass(frozen=True, eq=False)
class Buffers:
    """Be a cache that has buffers [B + BEHIND, H_kv, C, D], in which what is not written stays as it was."""

    keys: Tensor
    values: Tensor
    slots: Tensor  # [B, n]

    @classmethod
    def of(cls, slots: Tensor, heads: int, size: int, like: Tensor) -> Buffers:
        keys, values = (like.new_full((len(slots) + BEHIND, heads, SLOTS, size), UNTOUCHED) for _ in range(2))
        return cls(keys, values, slots.to(like.device))

    def reserve(self, layer: int, like: Tensor, heads: int, size: int) -> tuple[Tensor, Tensor, Tensor]:
        return self.keys[:-BEHIND], self.values[:-BEHIND], self.slots

    def read(self, layer: int) -> tuple[Tensor, Tensor]:
        return self.keys, self.values

    def update(self, keys: Tensor, values: Tensor, layer: int) -> tuple[Tensor, Tensor]:
        for buffer, states in ((self.keys, keys), (self.values, values)):
            buffer[:-BEHIND].scatter_(2, self.slots[:, None, :, None].expand_as(states), states)
        return self.read(layer)


class Returned:
    """Be a cache without buffers."""

    def reserve(self, layer: int, like: Tensor, heads: int, size: int) -> None:
        return None

    def read(self, layer: int) -> tuple[Tensor, Tensor]:
        raise AssertionError("nothing was reserved")

    def update(self, keys: Tensor, values: Tensor, layer: int) -> tuple[Tensor, Tensor]:
        return keys, values


@pytest.mark.parametrize("dtype", ROUNDING, ids=str)
@pytest.mark.parametrize("normed", [False, True])
@pytest.mark.parametrize("size", [64, 80, 96])
@pytest.mark.parametrize(("rows", "queries"), TOKENS)
def test_it_equals_torch(rows: int, queries: int, size: int, normed: bool, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    joined = torch.randn(rows, queries, (HEADS[0] + 2 * HEADS[1]) * size).to(dtype)
    norms = (*torch.rand(2, size).to(dtype), 1e-6) if normed else None
    slots = torch.stack([torch.randperm(SLOTS)[:queries] for _ in range(rows)])
    for angles in torch.randn(2, rows, queries, size).to(dtype), torch.randn(2, 1, queries, size).to(dtype):
        for cache in (lambda like: Buffers.of(slots, HEADS[1], size, like)), (lambda like: Returned()):
            results = []
            for device, kind in ((DEVICE, dtype), ("cpu", torch.float64)):
                given, cosine, sine = (tensor.to(device, kind) for tensor in (joined, *angles))
                weights = norms and (*(tensor.to(device, kind) for tensor in norms[:2]), norms[2])
                results.append(split_heads(given, HEADS, cosine, sine, weights, cache(given), 0))
            for got, wanted in zip(*results, strict=True):
                torch.testing.assert_close(got.cpu().double(), wanted, rtol=ROUNDING[dtype], atol=1e-5)
