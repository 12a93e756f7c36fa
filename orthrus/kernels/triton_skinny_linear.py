"""Projections of a few tokens, as Triton kernels that do what stands around them: norm, rotation, gate, residual.

A pass over few tokens M is bound by reading weights and by the number of kernels, so every projection is one kernel
that also does what stands around it. A norm's gain is multiplied in by the kernel before, which holds the columns; its
root mean square is a factor of the whole row, so the kernel after applies it to its sums: the kernel before leaves the
sum of squares in parts of 16 columns (parts [P, `padded`], as many tokens as the tiles hold). Accumulated in float32
and rounded once.

A token's bits depend neither on the others of a pass nor on the tile: tensor cores add up its products in the order of
K by any of them (`docs/tools/product_tiles.py` looks), and squares are added two by two, whoever has them.

On GPUs that can (Hopper), a kernel is launched while the one before still runs (programmatic dependent launch); it
touches nothing that the one before writes until `gdc_wait` has returned. Its weights nobody writes: the first AHEAD
numbers of its rows of them may be on their way before.
"""

from __future__ import annotations

import triton
import triton.language as tl

from orthrus.kernels import tiles
from orthrus.kernels.triton_wait import let_follow, read_ahead, wait

PART_COLUMNS = tl.constexpr(tiles.PART_COLUMNS)


@triton.jit
def product(
    hidden,
    weight,
    n,
    m,
    valid,
    K: tl.constexpr,
    BK: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
    STAGES: tl.constexpr,
):
    """Return hidden [M, K] times the rows n of weight [N, K], transposed: [BM, BN]."""
    total = tl.zeros([BM, BN], tl.float32)
    for start in tl.range(0, K, BK, num_stages=STAGES):
        k = start + tl.arange(0, BK)
        if K % BK == 0:
            w = tl.load(weight + n[None, :] * K + k[:, None])
            x = tl.load(hidden + m[:, None] * K + k[None, :], mask=valid[:, None], other=0.0)
        else:
            inside = k < K
            w = tl.load(weight + n[None, :] * K + k[:, None], mask=inside[:, None], other=0.0)
            x = tl.load(hidden + m[:, None] * K + k[None, :], mask=valid[:, None] & inside[None, :], other=0.0)
        total = tl.dot(x, w, total)
    return total


@triton.jit
def added_by_twos(x, ROWS: tl.constexpr, COUNT: tl.constexpr, EACH: tl.constexpr):
    """Return the sums [ROWS, COUNT] of EACH neighbours of x [ROWS, COUNT * EACH], a power of two.

    Two are added at a time, and a + b is b + a: so the bits do not depend on which threads have which numbers.
    """
    left: tl.constexpr = EACH // 2
    if EACH > 1:
        halves = tl.sum(tl.reshape(x, [ROWS, COUNT, 2, left]), 2)
        x = added_by_twos(tl.reshape(halves, [ROWS, COUNT * left]), ROWS, COUNT, left)
    return x


@triton.jit
def squares_of(parts, padded, m, valid, PARTS: tl.constexpr, PADDED: tl.constexpr):
    """Return the parts [BM, PADDED] of each row's sum of squares: asked for before the product, used behind it."""
    p = tl.arange(0, PADDED)
    return tl.load(parts + p[None, :] * padded + m[:, None], mask=valid[:, None] & (p < PARTS)[None, :], other=0.0)


@triton.jit
def factor_of(squares, K: tl.constexpr, epsilon):
    """Return one over the root mean square of each row [BM], of which `squares_of` are parts."""
    total = added_by_twos(squares, squares.shape[0], 1, squares.shape[1])
    return tl.rsqrt(tl.reshape(total, [squares.shape[0]]) / K + epsilon)


@triton.jit
def store_squares(parts, wide, first, padded, m, valid, BM: tl.constexpr, BN: tl.constexpr):
    """Write the sums of squares of each 16 columns of a tile [BM, BN] of which `first` is the first column."""
    COUNT: tl.constexpr = BN // PART_COLUMNS
    p = first // PART_COLUMNS + tl.arange(0, COUNT)
    neighbours = tl.sum(tl.reshape(wide * wide, [BM, BN // 2, 2]), 2)  # which a thread has both of
    squares = added_by_twos(neighbours, BM, COUNT, PART_COLUMNS // 2)
    tl.store(parts + p[None, :] * padded + m[:, None], squares, mask=valid[:, None])


@triton.jit
def prepare(x, weight, gained, parts, row, k, inside, K: tl.constexpr):
    """Write a row x [K] times a norm's weight, and the whole sum of its squares as the one part."""
    g = tl.load(weight + k, mask=inside, other=0.0).to(tl.float32)
    wide = x.to(tl.float32)
    tl.store(gained + row * K + k, (wide * g).to(x.dtype), mask=inside)
    tl.store(parts + row, tl.sum(wide * wide, 0))


@triton.jit
def gain(hidden, weight, gained, parts, K: tl.constexpr, PADDED: tl.constexpr):
    """Prepare the first layer: gained = hidden * weight, and the whole sum of squares as the one part."""
    row = tl.program_id(0)
    k = tl.arange(0, PADDED)
    inside = k < K
    x = tl.load(hidden + row * K + k, mask=inside, other=0.0)
    prepare(x, weight, gained, parts, row, k, inside, K)


@triton.jit
def added_gain(hidden, more, weight, gained, parts, K: tl.constexpr, PADDED: tl.constexpr):
    """Add `more` to hidden in place, both [M, K], and prepare what follows as `gain` does."""
    row = tl.program_id(0)
    k = tl.arange(0, PADDED)
    inside = k < K
    x = tl.load(hidden + row * K + k, mask=inside, other=0.0)
    y = tl.load(more + row * K + k, mask=inside, other=0.0)
    g = tl.load(weight + k, mask=inside, other=0.0).to(tl.float32)
    wide = (x.to(tl.float32) + y.to(tl.float32)).to(x.dtype).to(tl.float32)
    tl.store(hidden + row * K + k, wide.to(x.dtype), mask=inside)
    tl.store(gained + row * K + k, (wide * g).to(x.dtype), mask=inside)
    tl.store(parts + row, tl.sum(wide * wide, 0))


@triton.jit
def linear_tile(
    gained, parts, weight, bias, out, m, valid, padded, epsilon,
    N: tl.constexpr, K: tl.constexpr, PARTS: tl.constexpr, PADDED: tl.constexpr, BIASED: tl.constexpr,
    BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, STAGES: tl.constexpr, EARLY: tl.constexpr,
    AHEAD: tl.constexpr, PIECES: tl.constexpr,
):  # fmt: skip
    """Do what `linear` does for the tokens m [BM] that are valid."""
    n = tl.program_id(1) * BN + tl.arange(0, BN)
    read_ahead(weight, n, K, AHEAD, PIECES)
    wait(EARLY)
    if PARTS > 0:
        squares = squares_of(parts, padded, m, valid, PARTS, PADDED)
    values = product(gained, weight, n, m, valid, K, BK, BM, BN, STAGES)
    let_follow(EARLY)
    if PARTS > 0:
        values *= factor_of(squares, K, epsilon)[:, None]
    if BIASED:
        values += tl.load(bias + n).to(tl.float32)[None, :]
    tl.store(out + m[:, None] * N + n[None, :], values.to(out.dtype.element_ty), mask=valid[:, None])


@triton.jit(do_not_specialize=["rows"])
def linear(
    gained,
    parts,
    weight,
    bias,
    out,
    rows,
    padded,
    epsilon,
    N: tl.constexpr,
    K: tl.constexpr,
    PARTS: tl.constexpr,
    PADDED: tl.constexpr,
    BIASED: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
    BK: tl.constexpr,
    STAGES: tl.constexpr,
    EARLY: tl.constexpr,
    AHEAD: tl.constexpr,
    PIECES: tl.constexpr,
):
    """Write norm(hidden) times weight [N, K] transposed, plus bias, to out [M, N]; without parts there is no norm."""
    m = tl.program_id(0) * BM + tl.arange(0, BM)
    linear_tile(
        gained, parts, weight, bias, out, m, m < rows, padded, epsilon,
        N, K, PARTS, PADDED, BIASED, BM, BN, BK, STAGES, EARLY, AHEAD, PIECES,
    )  # fmt: skip


@triton.jit
def rotated_tile(
    gained, parts, weight, bias, cosine, sine, query, key, value, slots, stride_row, stride_head, m, valid,
    padded, queries, angle_stride, epsilon,
    EVERY: tl.constexpr, FEW: tl.constexpr, SIZE: tl.constexpr, K: tl.constexpr, PARTS: tl.constexpr,
    PADDED: tl.constexpr, BIASED: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr,
    STAGES: tl.constexpr, EARLY: tl.constexpr, AHEAD: tl.constexpr, PIECES: tl.constexpr,
):  # fmt: skip
    """Do what `linear_rotated` does for the tokens m [BM] that are valid."""
    HALF: tl.constexpr = SIZE // 2
    PAIRS: tl.constexpr = BN // 2
    head = tl.program_id(1) // (HALF // PAIRS)
    first = tl.program_id(1) % (HALF // PAIRS) * PAIRS
    j = tl.arange(0, BN)
    n = head * SIZE + first + (j % PAIRS) + (j // PAIRS) * HALF
    read_ahead(weight, n, K, AHEAD, PIECES)
    wait(EARLY)
    squares = squares_of(parts, padded, m, valid, PARTS, PADDED)
    # What stands beside the product is asked for before it.
    d = first + tl.arange(0, PAIRS)
    row = m // queries
    column = m % queries
    mask = valid[:, None]
    heads = head + m * 0  # of each token, as masks want it
    turned = (valid & (heads < EVERY + FEW))[:, None]
    angle = (row * angle_stride + column * SIZE)[:, None] + d[None, :]
    cosine_low = tl.load(cosine + angle, mask=turned, other=0.0)
    cosine_high = tl.load(cosine + angle + HALF, mask=turned, other=0.0)
    sine_low = tl.load(sine + angle, mask=turned, other=0.0)
    sine_high = tl.load(sine + angle + HALF, mask=turned, other=0.0)
    slot = tl.load(slots + m, mask=valid & (heads >= EVERY), other=0)
    values = product(gained, weight, n, m, valid, K, BK, BM, BN, STAGES)
    let_follow(EARLY)
    values *= factor_of(squares, K, epsilon)[:, None]
    if BIASED:
        values += tl.load(bias + n).to(tl.float32)[None, :]
    low, high = tl.split(tl.permute(tl.reshape(values, [BM, 2, PAIRS]), [0, 2, 1]))
    if head < EVERY + FEW:
        rotated = low * cosine_low.to(tl.float32) - high * sine_low.to(tl.float32)
        high = high * cosine_high.to(tl.float32) + low * sine_high.to(tl.float32)
        low = rotated
    if head < EVERY:
        target = query + ((row * EVERY + head) * queries + column).to(tl.int64) * SIZE
    elif head < EVERY + FEW:
        target = key + row.to(tl.int64) * stride_row + (head - EVERY) * stride_head + slot * SIZE
    else:
        target = value + row.to(tl.int64) * stride_row + (head - EVERY - FEW) * stride_head + slot * SIZE
    tl.store(target[:, None] + d[None, :], low.to(query.dtype.element_ty), mask=mask)
    tl.store(target[:, None] + d[None, :] + HALF, high.to(query.dtype.element_ty), mask=mask)


@triton.jit(do_not_specialize=["rows", "queries", "angle_stride"])
def linear_rotated(
    gained,
    parts,
    weight,
    bias,
    cosine,
    sine,
    query,
    key,
    value,
    slots,
    stride_row,
    stride_head,
    rows,
    padded,
    queries,
    angle_stride,
    epsilon,
    EVERY: tl.constexpr,
    FEW: tl.constexpr,
    SIZE: tl.constexpr,
    K: tl.constexpr,
    PARTS: tl.constexpr,
    PADDED: tl.constexpr,
    BIASED: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
    BK: tl.constexpr,
    STAGES: tl.constexpr,
    EARLY: tl.constexpr,
    AHEAD: tl.constexpr,
    PIECES: tl.constexpr,
):
    """Project to heads, rotate queries and keys, write queries [B, EVERY, n, SIZE] and the cache's slots.

    A program has BN / 2 dimensions of one head and their partners half a head further, which rotation mixes.
    """
    m = tl.program_id(0) * BM + tl.arange(0, BM)
    rotated_tile(
        gained, parts, weight, bias, cosine, sine, query, key, value, slots, stride_row, stride_head, m, m < rows,
        padded, queries, angle_stride, epsilon,
        EVERY, FEW, SIZE, K, PARTS, PADDED, BIASED, BM, BN, BK, STAGES, EARLY, AHEAD, PIECES,
    )  # fmt: skip


@triton.jit
def added_tile(
    hidden, weight, residual, norm, gained, parts, source, m, valid, padded,
    N: tl.constexpr, K: tl.constexpr, NORMED: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr,
    STAGES: tl.constexpr, EARLY: tl.constexpr, AHEAD: tl.constexpr, PIECES: tl.constexpr,
):  # fmt: skip
    """Do what `linear_added` does for the tokens m [BM] that are valid; source [BM]: which row of hidden each has."""
    n = tl.program_id(1) * BN + tl.arange(0, BN)
    if NORMED:
        gains = tl.load(norm + n)
    read_ahead(weight, n, K, AHEAD, PIECES)
    wait(EARLY)
    offsets = m[:, None] * N + n[None, :]
    before = tl.load(residual + offsets, mask=valid[:, None], other=0.0)
    values = product(hidden, weight, n, source, valid, K, BK, BM, BN, STAGES)
    let_follow(EARLY)
    after = (values + before.to(tl.float32)).to(before.dtype)
    tl.store(residual + offsets, after, mask=valid[:, None])
    if NORMED:
        wide = after.to(tl.float32)
        tl.store(gained + offsets, (wide * gains[None, :].to(tl.float32)).to(before.dtype), mask=valid[:, None])
        store_squares(parts, wide, tl.program_id(1) * BN, padded, m, valid, BM, BN)


@triton.jit(do_not_specialize=["rows"])
def linear_added(
    hidden,
    weight,
    residual,
    norm,
    gained,
    parts,
    rows,
    padded,
    N: tl.constexpr,
    K: tl.constexpr,
    NORMED: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
    BK: tl.constexpr,
    STAGES: tl.constexpr,
    EARLY: tl.constexpr,
    AHEAD: tl.constexpr,
    PIECES: tl.constexpr,
):
    """Add hidden times weight [N, K] transposed to the residual [M, N] in place; make it ready for the next norm."""
    m = tl.program_id(0) * BM + tl.arange(0, BM)
    added_tile(
        hidden, weight, residual, norm, gained, parts, m, m, m < rows, padded,
        N, K, NORMED, BM, BN, BK, STAGES, EARLY, AHEAD, PIECES,
    )  # fmt: skip


@triton.jit(do_not_specialize=["rows"])
def gated(
    gained,
    parts,
    weight,
    out,
    rows,
    padded,
    epsilon,
    N: tl.constexpr,
    K: tl.constexpr,
    PARTS: tl.constexpr,
    PADDED: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
    BK: tl.constexpr,
    STAGES: tl.constexpr,
    EARLY: tl.constexpr,
    AHEAD: tl.constexpr,
    PIECES: tl.constexpr,
):
    """Write silu(gate) * up [M, N] for a weight [2 N, K], the gates above; a program has BN / 2 of both."""
    HALF: tl.constexpr = BN // 2
    first = tl.program_id(1) * HALF
    j = tl.arange(0, BN)
    n = first + (j % HALF) + (j // HALF) * N
    m = tl.program_id(0) * BM + tl.arange(0, BM)
    valid = m < rows
    read_ahead(weight, n, K, AHEAD, PIECES)
    wait(EARLY)
    squares = squares_of(parts, padded, m, valid, PARTS, PADDED)
    values = product(gained, weight, n, m, valid, K, BK, BM, BN, STAGES)
    let_follow(EARLY)
    values *= factor_of(squares, K, epsilon)[:, None]
    gate, up = tl.split(tl.permute(tl.reshape(values, [BM, 2, HALF]), [0, 2, 1]))
    column = first + tl.arange(0, HALF)
    activated = gate * tl.sigmoid(gate) * up
    tl.store(out + m[:, None] * N + column[None, :], activated.to(out.dtype.element_ty), mask=valid[:, None])
