"""The lookups of `lookups.py` as Triton kernels, a program for each token."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from orthrus.kernels.launch import early_launch
from orthrus.kernels.normed import Normed, padded_tokens
from orthrus.kernels.triton_skinny_linear import prepare
from orthrus.kernels.triton_wait import wait


@triton.jit
def _embedded(
    token_ids, table, norm, hidden, gained, parts, count,
    K: tl.constexpr, PADDED: tl.constexpr, EARLY: tl.constexpr,
):  # fmt: skip
    wait(EARLY)
    row = tl.program_id(0)
    k = tl.arange(0, PADDED)
    inside = k < K
    token = tl.load(token_ids + row)
    known = (token >= 0) & (token < count)  # a drafter's may not be: then it is refused by the verdict
    x = tl.load(table + token * K + k, mask=k < tl.where(known, K, 0), other=0.0)
    tl.store(hidden + row * K + k, x, mask=inside)
    prepare(x, norm, gained, parts, row, k, inside, K)


def embedded(token_ids: Tensor, table: Tensor, norm: Tensor) -> Normed:
    """See `orthrus.kernels.lookups.embedded`."""
    size = table.shape[1]
    hidden = table.new_empty(*token_ids.shape, size)
    gained, parts = torch.empty_like(hidden), hidden.new_empty(padded_tokens(token_ids.numel()), dtype=torch.float32)
    _embedded[(token_ids.numel(),)](
        token_ids.contiguous(),
        table,
        norm,
        hidden,
        gained,
        parts,
        table.shape[0],
        K=size,
        PADDED=triton.next_power_of_2(size),
        **early_launch(),
    )
    return Normed(hidden, gained, parts, 1)


@triton.jit
def _angles(positions, cosine, sine, cosines, sines, count, D: tl.constexpr, PADDED: tl.constexpr, EARLY: tl.constexpr):
    wait(EARLY)
    row = tl.program_id(0)
    d = tl.arange(0, PADDED)
    inside = d < D
    position = tl.load(positions + row)
    known = d < tl.where((position >= 0) & (position < count), D, 0)
    place = position * D + d
    tl.store(cosines + row * D + d, tl.load(cosine + place, mask=known, other=0.0), mask=inside)
    tl.store(sines + row * D + d, tl.load(sine + place, mask=known, other=0.0), mask=inside)


def angles(positions: Tensor, cosine: Tensor, sine: Tensor) -> tuple[Tensor, Tensor]:
    """Return the rows [B, n, D] of two tables [P, D] that belong to positions [B, n]."""
    size = cosine.shape[1]
    cosines, sines = cosine.new_empty(2, *positions.shape, size).unbind()
    _angles[(positions.numel(),)](
        positions.contiguous(),
        cosine,
        sine,
        cosines,
        sines,
        cosine.shape[0],
        D=size,
        PADDED=triton.next_power_of_2(size),
        num_warps=1,
        **early_launch(),
    )
    return cosines, sines
