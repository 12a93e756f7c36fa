"""Triton kernels for what stands around a product whose float32 sums are in memory: norm, gate, residual.

They do what the kernels of `triton_skinny_linear` do behind their own products, in the same order and to the bit.
"""

from __future__ import annotations

import triton
import triton.language as tl

from orthrus.kernels.triton_skinny_linear import factor_of, squares_of, store_squares


@triton.jit(do_not_specialize=["rows"])
def scaled(
    sums, parts, out, rows, padded, epsilon,
    N: tl.constexpr, K: tl.constexpr, PARTS: tl.constexpr, PADDED: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr,
):  # fmt: skip
    """Write sums [M, N] of a normed hidden state [M, K] to out; without parts there is no norm."""
    m = tl.program_id(0) * BM + tl.arange(0, BM)
    n = tl.program_id(1) * BN + tl.arange(0, BN)
    valid = m < rows
    place = m.to(tl.int64)[:, None] * N + n[None, :]
    values = tl.load(sums + place, mask=valid[:, None], other=0.0)
    if PARTS > 0:
        values *= factor_of(squares_of(parts, padded, m, valid, PARTS, PADDED), K, epsilon)[:, None]
    tl.store(out + place, values.to(out.dtype.element_ty), mask=valid[:, None])


@triton.jit(do_not_specialize=["rows"])
def added(
    sums, residual, norm, gained, parts, rows, padded,
    N: tl.constexpr, NORMED: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr,
):  # fmt: skip
    """Add sums [M, N] to the residual [M, N] in place; make it ready for the next norm."""
    m = tl.program_id(0) * BM + tl.arange(0, BM)
    n = tl.program_id(1) * BN + tl.arange(0, BN)
    valid = m < rows
    place = m.to(tl.int64)[:, None] * N + n[None, :]
    values = tl.load(sums + place, mask=valid[:, None], other=0.0)
    before = tl.load(residual + place, mask=valid[:, None], other=0.0)
    after = (values + before.to(tl.float32)).to(before.dtype)
    tl.store(residual + place, after, mask=valid[:, None])
    if NORMED:
        wide = after.to(tl.float32)
        gains = tl.load(norm + n).to(tl.float32)
        tl.store(gained + place, (wide * gains[None, :]).to(before.dtype), mask=valid[:, None])
        store_squares(parts, wide, tl.program_id(1) * BN, padded, m, valid, BM, BN)


@triton.jit(do_not_specialize=["rows"])
def gated(
    sums, parts, out, rows, padded, epsilon,
    N: tl.constexpr, K: tl.constexpr, PARTS: tl.constexpr, PADDED: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr,
):  # fmt: skip
    """Write silu(gate) * up [M, N] of the sums [M, 2 N] of a normed hidden state [M, K], the gates in front."""
    m = tl.program_id(0) * BM + tl.arange(0, BM)
    n = tl.program_id(1) * BN + tl.arange(0, BN)
    valid = m < rows
    place = m.to(tl.int64)[:, None] * (2 * N) + n[None, :]
    gate = tl.load(sums + place, mask=valid[:, None], other=0.0)
    up = tl.load(sums + place + N, mask=valid[:, None], other=0.0)
    factor = factor_of(squares_of(parts, padded, m, valid, PARTS, PADDED), K, epsilon)[:, None]
    gate *= factor
    up *= factor
    activated = gate * tl.sigmoid(gate) * up
    tl.store(out + m.to(tl.int64)[:, None] * N + n[None, :], activated.to(out.dtype.element_ty), mask=valid[:, None])
