"""The operations of `small_ops.py` as Triton kernels."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from orthrus.kernels.launch import early_launch
from orthrus.kernels.tiles import MOST_INVARIANT_TOKENS
from orthrus.kernels.triton_skinny_linear import added_by_twos
from orthrus.kernels.triton_wait import wait

FEW_TOKENS, TOKENS_A_PROGRAM = MOST_INVARIANT_TOKENS, 8  # of more, programs that take one at a time are too many


@triton.jit
def _rms_norm(hidden, weight, out, size, epsilon, BLOCK: tl.constexpr, EARLY: tl.constexpr):
    wait(EARLY)
    row = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, BLOCK)
    inside = column < size
    x = tl.load(hidden + row * size + column, mask=inside, other=0.0).to(tl.float32)
    scale = tl.rsqrt(tl.sum(x * x, 0) / size + epsilon)
    w = tl.load(weight + column, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + row * size + column, (x * scale * w).to(out.dtype.element_ty), mask=inside)


def rms_norm(hidden: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    """See `small_ops.rms_norm`."""
    hidden = hidden.contiguous()
    out = torch.empty_like(hidden)
    size = hidden.shape[-1]
    block = triton.next_power_of_2(size)
    warps = min(16, max(4, block // 512))
    _rms_norm[(hidden.numel() // size,)](
        hidden, weight, out, size, epsilon, BLOCK=block, num_warps=warps, **early_launch()
    )
    return out


@triton.jit
def _silu_product(joined, out, size, BLOCK: tl.constexpr, EARLY: tl.constexpr):
    wait(EARLY)
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = column < size
    gate = tl.load(joined + row * 2 * size + column, mask=inside, other=0.0).to(tl.float32)
    up = tl.load(joined + row * 2 * size + size + column, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + row * size + column, (gate * tl.sigmoid(gate) * up).to(out.dtype.element_ty), mask=inside)


def silu_product(joined: Tensor) -> Tensor:
    """See `small_ops.silu_product`."""
    joined = joined.contiguous()
    size = joined.shape[-1] // 2
    out = joined.new_empty(*joined.shape[:-1], size)
    block = min(1024, triton.next_power_of_2(size))
    _silu_product[(out.numel() // size, triton.cdiv(size, block))](
        joined, out, size, BLOCK=block, num_warps=4, **early_launch()
    )
    return out


@triton.jit
def _heads_of_tokens(
    index, joined, cosine, sine, query_weight, key_weight, query, key, value, slots, stride_row, stride_head,
    places, queries, every, few, rope_rows, epsilon,
    PLACED: tl.constexpr, NORMED: tl.constexpr, FINITE: tl.constexpr, SIZE: tl.constexpr, HALF: tl.constexpr,
    TOKENS: tl.constexpr,
):  # fmt: skip
    """Norm, rotate and place one head of the tokens `index` [T], of all rows' queries."""
    head = tl.program_id(1)
    row = index // queries
    column = index % queries
    d = tl.arange(0, HALF)[None, :]
    inside = (index < places)[:, None] & (d < SIZE // 2)
    source = joined + ((index.to(tl.int64) * (every + 2 * few) + head) * SIZE)[:, None] + d  # [T, HALF]
    low = tl.load(source, mask=inside, other=0.0).to(tl.float32)
    high = tl.load(source + SIZE // 2, mask=inside, other=0.0).to(tl.float32)
    if head < every + few:
        if NORMED:
            weight = (query_weight if head < every else key_weight) + d
            known = d < SIZE // 2
            squares = tl.reshape(added_by_twos(low * low + high * high, TOKENS, 1, HALF), [TOKENS])
            scale = tl.rsqrt(squares / SIZE + epsilon)[:, None]
            low *= scale * tl.load(weight, mask=known, other=0.0).to(tl.float32)
            high *= scale * tl.load(weight + SIZE // 2, mask=known, other=0.0).to(tl.float32)
        angle = ((row * rope_rows * queries + column) * SIZE)[:, None] + d
        cosine_low = tl.load(cosine + angle, mask=inside, other=0.0).to(tl.float32)
        cosine_high = tl.load(cosine + angle + SIZE // 2, mask=inside, other=0.0).to(tl.float32)
        sine_low = tl.load(sine + angle, mask=inside, other=0.0).to(tl.float32)
        sine_high = tl.load(sine + angle + SIZE // 2, mask=inside, other=0.0).to(tl.float32)
        turned_low = low * cosine_low - high * sine_low
        high = high * cosine_high + low * sine_high
        low = turned_low
    if head < every:
        target = query + ((row * every + head) * queries + column).to(tl.int64) * SIZE
    else:
        if FINITE:
            low = tl.where(tl.abs(low) < float("inf"), low, 0.0)  # not so for NaN
            high = tl.where(tl.abs(high) < float("inf"), high, 0.0)
        slot = column.to(tl.int64)
        if PLACED:
            slot = tl.load(slots + index, mask=index < places, other=0)
        if head < every + few:
            target = key + row.to(tl.int64) * stride_row + (head - every) * stride_head + slot * SIZE
        else:
            target = value + row.to(tl.int64) * stride_row + (head - every - few) * stride_head + slot * SIZE
    tl.store(target[:, None] + d, low.to(query.dtype.element_ty), mask=inside)
    tl.store(target[:, None] + SIZE // 2 + d, high.to(query.dtype.element_ty), mask=inside)


@triton.jit(do_not_specialize=["places", "queries", "rope_rows"])  # or it is compiled again as drafts grow
def _split_heads(
    joined,
    cosine,
    sine,
    query_weight,
    key_weight,
    query,
    key,
    value,
    slots,
    stride_row,
    stride_head,
    places,
    queries,
    every,
    few,
    rope_rows,
    epsilon,
    PLACED: tl.constexpr,
    NORMED: tl.constexpr,
    FINITE: tl.constexpr,
    SIZE: tl.constexpr,
    HALF: tl.constexpr,
    TOKENS: tl.constexpr,
    EARLY: tl.constexpr,
):
    wait(EARLY)
    _heads_of_tokens(
        tl.program_id(0) * TOKENS + tl.arange(0, TOKENS), joined, cosine, sine, query_weight, key_weight,
        query, key, value, slots, stride_row, stride_head, places, queries, every, few, rope_rows, epsilon,
        PLACED, NORMED, FINITE, SIZE, HALF, TOKENS,
    )  # fmt: skip


@triton.jit(do_not_specialize=["first", "places"])
def _split_heads_of_two_kinds(
    joined, cosine, sine, query_weight, other_query_weight, key_weight, other_key_weight, query, key, value, slots,
    stride_row, stride_head, first, places, every, few, epsilon,
    SIZE: tl.constexpr, HALF: tl.constexpr, EARLY: tl.constexpr,
):  # fmt: skip
    """Do so for each token of a row, those before `first` with norms of one kind and the others with another's."""
    wait(EARLY)
    mine = tl.program_id(0) < first
    _heads_of_tokens(
        tl.program_id(0) + tl.arange(0, 1), joined, cosine, sine,
        tl.where(mine, query_weight, other_query_weight), tl.where(mine, key_weight, other_key_weight),
        query, key, value, slots, stride_row, stride_head, places, places, every, few, 0, epsilon,
        True, True, False, SIZE, HALF, 1,
    )  # fmt: skip


def split_heads(
    joined: Tensor,
    heads: tuple[int, int],
    cosine: Tensor,
    sine: Tensor,
    norms: tuple[Tensor, Tensor, float] | None,
    destination: tuple[Tensor, Tensor, Tensor] | None,
    finite: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    """See `small_ops.split_heads`. destination: buffers [B, H_kv, C, D] and slots [B, n] that keys and values go to.

    finite: whether keys and values that are not finite are written as 0.
    """
    rows, queries = joined.shape[:2]
    every, few = heads
    size = joined.shape[-1] // (every + 2 * few)
    query = joined.new_empty(rows, every, queries, size)
    if destination is None:
        key, value = joined.new_empty(rows, few, queries, size), joined.new_empty(rows, few, queries, size)
        slots = torch.empty(0, dtype=torch.int64, device=joined.device)
    else:
        key, value, slots = destination
        slots = slots.contiguous()
    cosine, sine = cosine.contiguous(), sine.contiguous()
    weights = norms or (cosine, cosine, 0.0)
    tokens = 1 if rows * queries <= FEW_TOKENS else TOKENS_A_PROGRAM
    _split_heads[(triton.cdiv(rows * queries, tokens), every + 2 * few)](
        joined.contiguous(),
        cosine,
        sine,
        weights[0],
        weights[1],
        query,
        key,
        value,
        slots,
        key.stride(0),
        key.stride(1),
        rows * queries,
        queries,
        every,
        few,
        int(cosine.shape[0] > 1),
        weights[2],
        PLACED=destination is not None,
        NORMED=norms is not None,
        FINITE=finite,
        SIZE=size,
        HALF=triton.next_power_of_2(size // 2),
        TOKENS=tokens,
        num_warps=1 if tokens == 1 else 4,
        **early_launch(),
    )
    return query, key, value


def split_heads_of_two_kinds(
    joined: Tensor,
    first: int,
    heads: tuple[int, int],
    cosine: Tensor,
    sine: Tensor,
    norms: tuple[tuple[Tensor, Tensor, float], tuple[Tensor, Tensor, float]],
    destination: tuple[Tensor, Tensor, Tensor],
) -> Tensor:
    """See `small_ops.split_heads_of_two_kinds`."""
    tokens, (every, few) = joined.shape[1], heads
    size = joined.shape[-1] // (every + 2 * few)
    query = joined.new_empty(1, every, tokens, size)
    key, value, slots = destination
    _split_heads_of_two_kinds[(tokens, every + 2 * few)](
        joined.contiguous(),
        cosine.contiguous(),
        sine.contiguous(),
        norms[0][0],
        norms[1][0],
        norms[0][1],
        norms[1][1],
        query,
        key,
        value,
        slots.contiguous(),
        key.stride(0),
        key.stride(1),
        first,
        tokens,
        every,
        few,
        norms[0][2],
        SIZE=size,
        HALF=triton.next_power_of_2(size // 2),
        num_warps=1,
        **early_launch(),
    )
    return query
