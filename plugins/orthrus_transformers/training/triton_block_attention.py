"""Attention of training blocks in two kernels: each block sees a stretch of its row's frozen keys, and itself.

FlexAttention would ask the mask of every pair and compute gradients for the frozen keys too, which nobody wants. Here
a tile of queries holds whole blocks, so their own keys are the tile itself, and one program has all their gradients.

R: rows, H: heads, H_kv: heads of keys, L: frozen slots, M: queries (N blocks of K), D: size of a head.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

TILE = 128  # queries of a program; blocks must divide it
STEP = 64  # frozen slots read at a time
MOST_SHARED = 131_072  # bytes of shared memory that the backward kernel takes with heads of 128, in bfloat16


def fits(size: int, queries: int, head: int) -> bool:
    """Tell whether the kernels can take blocks of this size, so many queries, and heads of this size."""
    return TILE % size == 0 and queries % TILE == 0 and (head in (16, 32, 64) or (head == 128 and _has_much_memory()))


def _has_much_memory() -> bool:
    """Tell whether a block of the device can share what heads of 128 take in the backward kernel."""
    properties = torch.cuda.get_device_properties(torch.cuda.current_device())
    return int(getattr(properties, "shared_memory_per_block_optin", 0)) >= MOST_SHARED


@torch.library.custom_op("orthrus::attend_blocks", mutates_args=())
def attend_blocks(
    query: Tensor,
    frozen_keys: Tensor,
    frozen_values: Tensor,
    keys: Tensor,
    values: Tensor,
    first: Tensor,
    anchors: Tensor,
    scale: float,
) -> tuple[Tensor, Tensor]:
    """Return attention [R, M, H, D] and the logarithm of its normalizers [R, H, M].

    query [R, M, H, D]; frozen [R, L, H_kv, D], which get no gradients; keys and values [R, M, H_kv, D] of the blocks,
    all of them contiguous; first and anchors [R, N] int32: the frozen slots that a block sees, the last not included.
    """
    rows, queries, heads, size = query.shape
    groups = heads // keys.shape[2]
    out = torch.empty_like(query)
    normal = torch.empty(rows, heads, queries, device=query.device, dtype=torch.float32)
    grid = (queries // TILE, rows * heads)
    _forward[grid](
        query, frozen_keys, frozen_values, keys, values, first, anchors, out, normal,
        scale, frozen_keys.shape[1], queries, anchors.shape[1], heads, groups,
        SIZE=queries // anchors.shape[1], D=size, TILE=TILE, STEP=STEP, EXACT=query.dtype == torch.float32,
        num_warps=8 if query.element_size() < 4 else 4, num_stages=2,
    )  # fmt: skip
    return out, normal


@attend_blocks.register_fake
def _(
    query: Tensor,
    frozen_keys: Tensor,
    frozen_values: Tensor,
    keys: Tensor,
    values: Tensor,
    first: Tensor,
    anchors: Tensor,
    scale: float,
) -> tuple[Tensor, Tensor]:
    rows, queries, heads, _ = query.shape
    return torch.empty_like(query), query.new_empty(rows, heads, queries, dtype=torch.float32)


@torch.library.custom_op("orthrus::attend_blocks_backward", mutates_args=())
def attend_blocks_backward(
    gradient: Tensor,
    query: Tensor,
    frozen_keys: Tensor,
    frozen_values: Tensor,
    keys: Tensor,
    values: Tensor,
    first: Tensor,
    anchors: Tensor,
    out: Tensor,
    normal: Tensor,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of query [R, M, H, D] and of the blocks' keys and values [R, M, H_kv, D]."""
    gradient = gradient.contiguous()
    rows, queries, heads, size = query.shape
    d_query, d_keys, d_values = torch.empty_like(query), torch.empty_like(keys), torch.empty_like(values)
    grid = (queries // TILE, rows * keys.shape[2])
    _backward[grid](
        gradient, query, frozen_keys, frozen_values, keys, values, first, anchors, out, normal,
        d_query, d_keys, d_values,
        scale, frozen_keys.shape[1], queries, anchors.shape[1], keys.shape[2],
        GROUPS=heads // keys.shape[2], SIZE=queries // anchors.shape[1], D=size, TILE=TILE, STEP=STEP,
        EXACT=query.dtype == torch.float32, num_warps=8, num_stages=1,
    )  # fmt: skip
    return d_query, d_keys, d_values


@attend_blocks_backward.register_fake
def _(
    gradient: Tensor,
    query: Tensor,
    frozen_keys: Tensor,
    frozen_values: Tensor,
    keys: Tensor,
    values: Tensor,
    first: Tensor,
    anchors: Tensor,
    out: Tensor,
    normal: Tensor,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor]:
    return torch.empty_like(query), torch.empty_like(keys), torch.empty_like(values)


def _remember(ctx: object, inputs: tuple[object, ...], output: tuple[Tensor, Tensor]) -> None:
    *tensors, scale = inputs
    ctx.save_for_backward(*tensors, *output)  # type: ignore[attr-defined]
    ctx.scale = scale  # type: ignore[attr-defined]


def _gradients(ctx: object, gradient: Tensor, unused: Tensor) -> tuple[Tensor | None, ...]:
    d_query, d_keys, d_values = attend_blocks_backward(gradient, *ctx.saved_tensors, ctx.scale)  # type: ignore[attr-defined]
    return d_query, None, None, d_keys, d_values, None, None, None


attend_blocks.register_autograd(_gradients, setup_context=_remember)


@triton.jit
def _forward(
    query, frozen_keys, frozen_values, keys, values, first, anchors, out, normal,
    scale, slots, queries, blocks, heads, groups,
    SIZE: tl.constexpr, D: tl.constexpr, TILE: tl.constexpr, STEP: tl.constexpr, EXACT: tl.constexpr,
):  # fmt: skip
    exact: tl.constexpr = "ieee" if EXACT else "tf32"
    tile, row, head = tl.program_id(0), tl.program_id(1) // heads, tl.program_id(1) % heads
    kv_heads, kv_head = heads // groups, head // groups
    offsets, columns = tile * TILE + tl.arange(0, TILE), tl.arange(0, D)
    block = offsets // SIZE
    begin = tl.load(first + row * blocks + block)
    end = tl.load(anchors + row * blocks + block)
    token = row.to(tl.int64) * queries + offsets  # counted over all rows
    wide = (token[:, None] * heads + head) * D + columns[None, :]
    own = (token[:, None] * kv_heads + kv_head) * D + columns[None, :]
    q = tl.load(query + wide)

    # The block itself first: every query sees something there, so no maximum is ever of nothing.
    scores = tl.dot(q, tl.trans(tl.load(keys + own)), input_precision=exact) * scale
    scores = tl.where(block[:, None] == block[None, :], scores, float("-inf"))
    most = tl.max(scores, 1)
    weights = tl.exp(scores - most[:, None])
    total = tl.sum(weights, 1)
    v = tl.load(values + own)
    seen = tl.dot(weights.to(v.dtype), v, input_precision=exact)

    for start in range((tl.min(begin) // STEP) * STEP, tl.max(end), STEP):
        slot = start + tl.arange(0, STEP)
        there = slot < slots
        offset = ((row.to(tl.int64) * slots + slot)[:, None] * kv_heads + kv_head) * D + columns[None, :]
        far_k = tl.load(frozen_keys + offset, mask=there[:, None], other=0.0)
        far_v = tl.load(frozen_values + offset, mask=there[:, None], other=0.0)
        far_scores = tl.dot(q, tl.trans(far_k), input_precision=exact) * scale
        visible = (slot[None, :] >= begin[:, None]) & (slot[None, :] < end[:, None])
        far_scores = tl.where(visible, far_scores, float("-inf"))
        higher = tl.maximum(most, tl.max(far_scores, 1))
        less = tl.exp(most - higher)
        far_weights = tl.exp(far_scores - higher[:, None])
        total = total * less + tl.sum(far_weights, 1)
        seen = seen * less[:, None] + tl.dot(far_weights.to(far_v.dtype), far_v, input_precision=exact)
        most = higher

    tl.store(out + wide, (seen / total[:, None]).to(out.dtype.element_ty))
    tl.store(normal + tl.program_id(1) * queries + offsets, most + tl.log(total))


@triton.jit
def _backward(
    gradient, query, frozen_keys, frozen_values, keys, values, first, anchors, out, normal,
    d_query, d_keys, d_values,
    scale, slots, queries, blocks, kv_heads,
    GROUPS: tl.constexpr, SIZE: tl.constexpr, D: tl.constexpr, TILE: tl.constexpr, STEP: tl.constexpr,
    EXACT: tl.constexpr,
):  # fmt: skip
    exact: tl.constexpr = "ieee" if EXACT else "tf32"
    tile, row, kv_head = tl.program_id(0), tl.program_id(1) // kv_heads, tl.program_id(1) % kv_heads
    offsets, columns = tile * TILE + tl.arange(0, TILE), tl.arange(0, D)
    block = offsets // SIZE
    begin = tl.load(first + row * blocks + block)
    end = tl.load(anchors + row * blocks + block)
    lowest, highest = (tl.min(begin) // STEP) * STEP, tl.max(end)
    token = row.to(tl.int64) * queries + offsets  # counted over all rows
    own = (token[:, None] * kv_heads + kv_head) * D + columns[None, :]
    d_k = tl.zeros([TILE, D], tl.float32)
    d_v = tl.zeros([TILE, D], tl.float32)
    for member in tl.static_range(GROUPS):
        head = kv_head * GROUPS + member
        wide = (token[:, None] * (kv_heads * GROUPS) + head) * D + columns[None, :]
        q, d_out = tl.load(query + wide), tl.load(gradient + wide)
        delta = tl.sum(tl.load(out + wide).to(tl.float32) * d_out.to(tl.float32), 1)
        level = tl.load(normal + (row * kv_heads * GROUPS + head) * queries + offsets)
        d_q = tl.zeros([TILE, D], tl.float32)
        for start in range(lowest, highest, STEP):
            slot = start + tl.arange(0, STEP)
            there = slot < slots
            offset = ((row.to(tl.int64) * slots + slot)[:, None] * kv_heads + kv_head) * D + columns[None, :]
            far_k = tl.load(frozen_keys + offset, mask=there[:, None], other=0.0)
            far_v = tl.load(frozen_values + offset, mask=there[:, None], other=0.0)
            visible = (slot[None, :] >= begin[:, None]) & (slot[None, :] < end[:, None])
            far_scores = tl.dot(q, tl.trans(far_k), input_precision=exact) * scale
            far_weights = tl.where(visible, tl.exp(far_scores - level[:, None]), 0.0)
            far_d_weights = tl.dot(d_out, tl.trans(far_v), input_precision=exact)
            far_d_scores = (far_weights * (far_d_weights - delta[:, None]) * scale).to(far_k.dtype)
            d_q += tl.dot(far_d_scores, far_k, input_precision=exact)
        k, v = tl.load(keys + own), tl.load(values + own)
        scores = tl.dot(q, tl.trans(k), input_precision=exact) * scale
        weights = tl.where(block[:, None] == block[None, :], tl.exp(scores - level[:, None]), 0.0)
        d_weights = tl.dot(d_out, tl.trans(v), input_precision=exact)
        d_scores = (weights * (d_weights - delta[:, None]) * scale).to(k.dtype)
        d_q += tl.dot(d_scores, k, input_precision=exact)
        d_k += tl.dot(tl.trans(d_scores), q, input_precision=exact)
        d_v += tl.dot(tl.trans(weights.to(k.dtype)), d_out, input_precision=exact)
        tl.store(d_query + wide, d_q.to(d_query.dtype.element_ty))
    tl.store(d_keys + own, d_k.to(d_keys.dtype.element_ty))
    tl.store(d_values + own, d_v.to(d_values.dtype.element_ty))
