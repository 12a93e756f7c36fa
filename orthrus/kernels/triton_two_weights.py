"""Projections of two kinds of tokens in one launch: those before `first` by one weight, the others by another.

Each kind has tiles of tokens of its own, those of the first kind before the others: a program is of one kind, and does
what a program of `triton_skinny_linear.py` does with that kind's weight. So a token has the bits that it has there.
"""

from __future__ import annotations

import triton
import triton.language as tl

from orthrus.kernels.triton_skinny_linear import added_tile, linear_tile, rotated_tile


@triton.jit
def kind_of(tile, first, rows, BM: tl.constexpr):
    """Return of a tile whether it is of the first kind, its tokens [BM] and which are valid, and where its kind begins.

    first, rows: how many tokens are of the first kind, and of both.
    """
    tiles = tl.cdiv(first, BM)
    mine = tile < tiles
    start = tl.where(mine, 0, first)
    m = start + tl.where(mine, tile, tile - tiles) * BM + tl.arange(0, BM)
    return mine, m, m < tl.where(mine, first, rows), start


@triton.jit(do_not_specialize=["first", "rows"])
def linear(
    gained, parts, weight, other_weight, bias, other_bias, out, first, rows, padded, epsilon,
    N: tl.constexpr, K: tl.constexpr, PARTS: tl.constexpr, PADDED: tl.constexpr, BIASED: tl.constexpr,
    BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, STAGES: tl.constexpr, EARLY: tl.constexpr,
    AHEAD: tl.constexpr, PIECES: tl.constexpr,
):  # fmt: skip
    """Write norm(hidden) times a weight [N, K] transposed, plus a bias, to out [M, N]; without parts, no norm."""
    mine, m, valid, _ = kind_of(tl.program_id(0), first, rows, BM)
    if BIASED:
        bias = tl.where(mine, bias, other_bias)
    linear_tile(
        gained, parts, tl.where(mine, weight, other_weight), bias, out, m, valid, padded, epsilon,
        N, K, PARTS, PADDED, BIASED, BM, BN, BK, STAGES, EARLY, AHEAD, PIECES,
    )  # fmt: skip


@triton.jit(do_not_specialize=["first", "rows"])
def linear_rotated(
    gained, parts, weight, other_weight, bias, other_bias, cosine, sine, query, key, value, slots,
    stride_row, stride_head, first, rows, padded, epsilon,
    EVERY: tl.constexpr, FEW: tl.constexpr, SIZE: tl.constexpr, K: tl.constexpr, PARTS: tl.constexpr,
    PADDED: tl.constexpr, BIASED: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr,
    STAGES: tl.constexpr, EARLY: tl.constexpr, AHEAD: tl.constexpr, PIECES: tl.constexpr,
):  # fmt: skip
    """Project one row of tokens to heads, rotate them, write queries [EVERY, M, SIZE] and the cache's slots."""
    mine, m, valid, _ = kind_of(tl.program_id(0), first, rows, BM)
    if BIASED:
        bias = tl.where(mine, bias, other_bias)
    rotated_tile(
        gained, parts, tl.where(mine, weight, other_weight), bias, cosine, sine, query, key, value, slots,
        stride_row, stride_head, m, valid, padded, rows, 0, epsilon,
        EVERY, FEW, SIZE, K, PARTS, PADDED, BIASED, BM, BN, BK, STAGES, EARLY, AHEAD, PIECES,
    )  # fmt: skip


@triton.jit(do_not_specialize=["first", "rows"])
def linear_added(
    hidden, other_hidden, weight, other_weight, residual, norm, gained, parts, first, rows, padded,
    N: tl.constexpr, K: tl.constexpr, NORMED: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr,
    STAGES: tl.constexpr, EARLY: tl.constexpr, AHEAD: tl.constexpr, PIECES: tl.constexpr,
):  # fmt: skip
    """Add what each kind has [its tokens, K], times its weight [N, K] transposed, to the residual [M, N] in place."""
    mine, m, valid, start = kind_of(tl.program_id(0), first, rows, BM)
    added_tile(
        tl.where(mine, hidden, other_hidden), tl.where(mine, weight, other_weight), residual, norm, gained, parts,
        m - start, m, valid, padded,
        N, K, NORMED, BM, BN, BK, STAGES, EARLY, AHEAD, PIECES,
    )  # fmt: skip
