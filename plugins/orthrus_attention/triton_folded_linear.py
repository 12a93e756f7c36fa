"""A Triton kernel that folds the parts of a single query's attention, projects the result and adds it to the residual.

It does what `triton_steady_kv.folded` and `triton_skinny_linear.linear_added` do one after the other, to the bit. Each
program folds all heads for itself, which for one query costs less than a kernel of its own does; its weights are on
their way before the kernel ahead has ended.
"""

from __future__ import annotations

import triton
import triton.language as tl

from orthrus.kernels.triton_skinny_linear import store_squares
from orthrus.kernels.triton_wait import wait
from orthrus_attention.triton_steady_kv import part_of, weights_of

ROWS = tl.constexpr(16)  # of a product's tile, the fewest that tensor cores take; the first is the query's


@triton.jit
def _weight(weight, n, first, HEADS: tl.constexpr, SIZE: tl.constexpr, PADDED: tl.constexpr, AT_ONCE: tl.constexpr):
    """Return the columns of some heads, of rows n of a weight [N, HEADS * SIZE]: [AT_ONCE * PADDED, N]."""
    k = tl.arange(0, AT_ONCE * PADDED)
    head, d = first + k // PADDED, k % PADDED
    inside = (head < HEADS) & (d < SIZE)
    return tl.load(weight + n[None, :] * (HEADS * SIZE) + (head * SIZE + d)[:, None], mask=inside[:, None], other=0.0)


@triton.jit
def _folded(
    held_maxima, held_sums, held_values, lowest, last, FIRST: tl.constexpr, PARTS: tl.constexpr
):  # fmt: skip
    """Return the mean [heads, D] that parts from FIRST on give, of which those from lowest to last were written."""
    maximum = tl.where((lowest <= 0) & (last >= 0), held_maxima[FIRST], float("-inf"))
    total = tl.where((lowest <= 0) & (last >= 0), held_sums[FIRST], 0.0)
    values = tl.where((lowest <= 0) & (last >= 0), held_values[FIRST], 0.0)
    for part in tl.static_range(1, PARTS):
        there = (part >= lowest) & (part <= last)
        maximum, keep, weigh = weights_of(maximum, tl.where(there, held_maxima[FIRST + part], float("-inf")))
        total = tl.fma(total, keep, tl.where(there, held_sums[FIRST + part], 0.0) * weigh)
        added = tl.where(there, held_values[FIRST + part], 0.0) * weigh[:, None]
        values = tl.fma(values, tl.broadcast_to(keep[:, None], values.shape), added)
    return values / total[:, None]


@triton.jit(do_not_specialize=["splits", "groups"])
def folded_added(
    parts, maxima, sums, positions, weight, residual, norm, gained, squares, splits, groups, padded,
    HEADS: tl.constexpr, SIZE: tl.constexpr, PADDED: tl.constexpr, N: tl.constexpr, PARTS: tl.constexpr,
    AT_ONCE: tl.constexpr, BLOCKS: tl.constexpr, WINDOW: tl.constexpr, BN: tl.constexpr, EARLY: tl.constexpr,
):  # fmt: skip
    """Add attention's result times weight [N, HEADS * SIZE], transposed, to the residual [1, N]; ready the next norm.

    parts, maxima, sums: of the first PARTS of `splits` parts, as `partial` leaves them for one query, whose position is
    known. groups: heads of queries that share one of keys. gained, squares: what `linear_added` leaves for the norm.
    """
    n = tl.program_id(0) * BN + tl.arange(0, BN)
    held_weights = ()
    for block in tl.static_range(BLOCKS):
        columns = _weight(weight, n, block * AT_ONCE, HEADS, SIZE, PADDED, AT_ONCE)
        held_weights = held_weights + (columns,)  # type: ignore[assignment]  # to Triton it is one of any length
    gains = tl.load(norm + n)
    wait(EARLY)
    m = tl.arange(0, ROWS)
    valid = m < 1
    offsets = m[:, None] * N + n[None, :]
    position = tl.load(positions).to(tl.int32)
    before = tl.load(residual + offsets, mask=valid[:, None], other=0.0)
    d = tl.arange(0, PADDED)
    held_maxima, held_sums, held_values = (), (), ()
    for block in tl.static_range(BLOCKS):  # all is asked for before anything is waited for
        head = block * AT_ONCE + tl.arange(0, AT_ONCE)
        for part in tl.static_range(PARTS):
            asked = head < tl.where(part < splits, HEADS, 0)
            cell = (head // groups * splits + part) * groups + head % groups
            mask = asked[:, None] & (d < SIZE)[None, :]
            maximum = tl.load(maxima + cell, mask=asked, other=float("-inf"))
            total = tl.load(sums + cell, mask=asked, other=0.0)
            values = tl.load(parts + cell[:, None] * SIZE + d[None, :], mask=mask, other=0.0)
            held_maxima = held_maxima + (maximum,)  # type: ignore[assignment]  # the same
            held_sums = held_sums + (total,)  # type: ignore[assignment]  # the same
            held_values = held_values + (values,)  # type: ignore[assignment]  # the same
    lowest, last = tl.full([], 0, tl.int32), part_of(position)
    if WINDOW > 0:  # what the query does not see was not written
        lowest = part_of(tl.maximum(position - WINDOW + 1, 0))
    product = tl.zeros([ROWS, BN], tl.float32)
    for block in tl.static_range(BLOCKS):
        mean = _folded(held_maxima, held_sums, held_values, lowest, last, block * PARTS, PARTS)
        real = block * AT_ONCE + tl.arange(0, AT_ONCE) < HEADS
        mean = tl.where(real[:, None], mean, 0.0).to(weight.dtype.element_ty)
        query = tl.broadcast_to(tl.reshape(mean, [1, AT_ONCE * PADDED]), [ROWS, AT_ONCE * PADDED])
        product = tl.dot(tl.where(valid[:, None], query, 0.0), held_weights[block], product)
    after = (product + before.to(tl.float32)).to(before.dtype)
    tl.store(residual + offsets, after, mask=valid[:, None])
    wide = after.to(tl.float32)
    tl.store(gained + offsets, (wide * gains[None, :].to(tl.float32)).to(before.dtype), mask=valid[:, None])
    store_squares(squares, wide, tl.program_id(0) * BN, padded, m, valid, ROWS, BN)
