"""Triton kernels: attention of a scored draft and of blocks beside it in one launch, a row of tokens over one cache.

A program is of one kind. One of the draft's does what a program of `triton_steady_kv.py` does, one of the blocks' what
one of `triton_split_kv.py` does, so either kind gets the bits that it gets there. What the blocks' programs leave lies
`behind` what the draft's leave. Names with `other` are the blocks'.
"""

from __future__ import annotations

import triton
import triton.language as tl

from orthrus.kernels.triton_wait import wait
from orthrus_attention.triton_split_kv import combine_row, sum_split
from orthrus_attention.triton_steady_kv import fold_row, leave, parts_of_split

COUNTS = ["behind", "queries", "rows", "splits", "tiles", "other_queries", "other_rows", "other_splits", "columns"]


@triton.jit(do_not_specialize=COUNTS)  # or it is compiled again as drafts grow
def partial(
    query, other_query, key, value, positions, other_positions, lengths, other_lengths, paths, parts, maxima, sums,
    behind, scale, stride_qh, stride_qn, stride_kh, stride_kn, stride_vh, stride_vn, heads,
    queries, rows, splits, tiles, other_queries, other_rows, other_splits, columns,
    GROUPED: tl.constexpr, QUERIES: tl.constexpr, OTHER_QUERIES: tl.constexpr, WINDOW: tl.constexpr,
    SIZE: tl.constexpr, PADDED: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
    OTHER_M: tl.constexpr, OTHER_N: tl.constexpr, EARLY: tl.constexpr,
):  # fmt: skip
    """Leave what each tile of rows of either kind sums up over a part of slots: the first `tiles` are the draft's."""
    wait(EARLY)
    head_index, split, tile = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    if tile < tiles:
        if split < splits:
            part, end_part = parts_of_split(split, GROUPED)
            leave(
                query, key, value, positions, lengths, positions, parts, maxima, sums, scale,
                0, stride_qh, stride_qn, 0, stride_kh, stride_kn, 0, stride_vh, stride_vn,
                0, 0, 0, heads, queries, rows, splits, part, end_part, split, tile * BLOCK_M, rows,
                False, False, GROUPED, QUERIES, WINDOW, True, False, SIZE, PADDED, BLOCK_M, BLOCK_N, True,
            )  # fmt: skip
    elif split < other_splits:
        sum_split(
            other_query, key, value, other_positions, other_lengths, paths,
            parts + behind.to(tl.int64) * SIZE, maxima + behind, sums + behind, scale,
            0, stride_qh, stride_qn, 0, stride_kh, stride_kn, 0, stride_vh, stride_vn,
            0, 0, 0, heads, other_queries, columns, other_rows, other_splits, head_index, split, tile - tiles,
            False, OTHER_QUERIES, WINDOW, False, True, SIZE, PADDED, OTHER_M, OTHER_N,
        )  # fmt: skip


@triton.jit(do_not_specialize=[name for name in COUNTS if name not in ("tiles", "columns")])
def folded(
    parts, maxima, sums, behind, positions, out, other_out, stride_oh, stride_on, heads,
    queries, rows, splits, other_queries, other_rows, other_splits,
    SIZE: tl.constexpr, PADDED: tl.constexpr, GROUPED: tl.constexpr, QUERIES: tl.constexpr, WINDOW: tl.constexpr,
    OTHER_SPLITS: tl.constexpr, EARLY: tl.constexpr,
):  # fmt: skip
    """Make of what was left of each row its result: the first rows are the draft's."""
    wait(EARLY)
    head_index, m = tl.program_id(0), tl.program_id(1)
    if m < rows:
        fold_row(
            parts, maxima, sums, positions, positions, out, 0, stride_oh, stride_on, heads, queries, rows, splits,
            head_index, m, SIZE, PADDED, GROUPED, QUERIES, WINDOW, True, False,
        )  # fmt: skip
    else:
        combine_row(
            parts + behind.to(tl.int64) * SIZE, maxima + behind, sums + behind, other_out, 0, stride_oh, stride_on,
            heads, other_queries, other_rows, other_splits, head_index, m - rows, SIZE, PADDED, OTHER_SPLITS,
        )  # fmt: skip
