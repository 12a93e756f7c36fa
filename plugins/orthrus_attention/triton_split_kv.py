"""Triton kernels: a few queries over long keys, the keys split over the whole GPU (as in Flash-Decoding, Dao 2023).

M = groups * n query rows share a key head: row m is query m % n of head m // n of the group. Each program of `partial`
reads one split of one key head's slots and leaves a softmax that is normalized over that split only; `combine` weighs
the splits together. Of a single split (WHOLE) `partial` leaves the result itself: `out_or_parts` is [B, H, n, D] then,
and else what each split sums up, [B, H_kv, splits, M, D]. Lengths are read from tensors, so a captured launch stays
right while the text grows.

A tree's tokens lie in the slots behind the committed ones, and `paths` [B, n, n] says which of them a query sees. So
it does for blocks behind the columns of a scored draft, whose keys come before theirs: [B, n, columns].
"""

from __future__ import annotations

import triton
import triton.language as tl

from orthrus.kernels.triton_wait import wait


@triton.jit
def _add_keys(q, k, v, seen, scale, maximum, total, sum_values):
    """Return the softmax so far with the keys k [D, N] and values v [N, D], of which seen [M, N] are seen."""
    scores = tl.dot(q, k, input_precision="ieee") * scale
    scores = tl.where(seen, scores, float("-inf"))
    higher = tl.maximum(maximum, tl.max(scores, 1))
    anchor = tl.where(higher == float("-inf"), 0.0, higher)  # a row that has seen no key yet
    weights = tl.exp(scores - anchor[:, None])
    shrink = tl.exp(maximum - anchor)
    # What is hidden has a weight of 0, and 0 * NaN is NaN: a draft's values must not reach the tokens before it.
    v = tl.where((v > float("-inf")) & (v < float("inf")), v, 0.0).to(v.dtype)
    sum_values = sum_values * shrink[:, None] + tl.dot(weights.to(v.dtype), v, input_precision="ieee")
    return higher, total * shrink + tl.sum(weights, 1), sum_values


@triton.jit
def _seen_keys(
    n, mask, position, first, length, positions, paths, query_index, valid, queries, columns,
    CAUSAL: tl.constexpr, TREE: tl.constexpr, WINDOW: tl.constexpr,
):  # fmt: skip
    """Return which of the slots n [N] each query sees [M, N]; positions [n] and paths [n, n] are those of the row."""
    if CAUSAL:
        seen = mask[None, :] & (n[None, :] <= position[:, None])
    elif TREE:
        column = n - length
        drafted = (column >= 0) & (column < columns)
        place = query_index[:, None] * columns + column[None, :]
        own = tl.load(paths + place, mask=valid[:, None] & drafted[None, :], other=0) != 0
        seen = mask[None, :] & ((n[None, :] < length) | own)
    else:
        seen = mask[None, :] & ((n[None, :] < length) | (n[None, :] >= first))
    if WINDOW > 0:
        if TREE:
            behind = length + columns - queries  # a scored draft's columns, if there are any, follow one another
            drafted = (n >= behind) & (n < length + columns)
            n = tl.where(drafted, tl.load(positions + n - behind, mask=drafted, other=0), n)
        seen = seen & (n[None, :] > position[:, None] - WINDOW)
    return seen


@triton.jit
def sum_split(
    query, key, value, positions, lengths, paths, out_or_parts, maxima, sums, scale,
    stride_qb, stride_qh, stride_qn, stride_kb, stride_kh, stride_kn, stride_vb, stride_vh, stride_vn,
    stride_ob, stride_oh, stride_on, heads, queries, columns, rows, splits, head_index, split, tile,
    WHOLE: tl.constexpr, QUERIES: tl.constexpr, WINDOW: tl.constexpr, CAUSAL: tl.constexpr, TREE: tl.constexpr,
    SIZE: tl.constexpr, PADDED: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """Leave what one tile of a key head's query rows sums up over one split of its slots."""
    batch = (head_index // heads).to(tl.int64)  # places can be beyond 32 bits
    head = (head_index % heads).to(tl.int64)
    groups = rows // queries

    m = tile * BLOCK_M + tl.arange(0, BLOCK_M)
    valid = m < rows
    query_in_group = m // queries
    query_index = m % queries
    query_head = head * groups + query_in_group
    d = tl.arange(0, PADDED)
    inside = d < SIZE
    position = tl.load(positions + batch * queries + query_index, mask=valid, other=0)
    # Columns may be in any order (a prefill rolls them), so the lowest and highest position are looked for.
    each = tl.arange(0, QUERIES)
    known = each < queries
    first = tl.min(tl.load(positions + batch * queries + each, mask=known, other=2147483647), 0)
    last = tl.max(tl.load(positions + batch * queries + each, mask=known, other=-1), 0)
    length = tl.load(lengths + batch)

    q = tl.load(
        query + batch * stride_qb + query_head[:, None] * stride_qh + query_index[:, None] * stride_qn + d[None, :],
        mask=valid[:, None] & inside[None, :],
        other=0.0,
    )
    maximum = tl.full([BLOCK_M], float("-inf"), tl.float32)
    total = tl.zeros([BLOCK_M], tl.float32)
    sum_values = tl.zeros([BLOCK_M, PADDED], tl.float32)

    # The slots in use, not the buffer's, are what is split: every program works however large the bucket.
    used = (last + 1).to(tl.int32)
    if TREE:
        used = (length + columns).to(tl.int32)
    lowest = 0
    if WINDOW > 0:
        lowest = tl.maximum(first - WINDOW + 1, 0).to(tl.int32)
    share = tl.cdiv(tl.cdiv(used - lowest, splits), BLOCK_N) * BLOCK_N
    end = tl.minimum(lowest + (split + 1) * share, used)
    start = lowest + split * share
    keys = key + batch * stride_kb + head * stride_kh
    values = value + batch * stride_vb + head * stride_vh
    common = start
    if TREE:  # what all queries see is looked at first, as it takes no look at the paths
        common = start + tl.maximum(tl.minimum(end, length.to(tl.int32)) - start, 0) // BLOCK_N * BLOCK_N
        for slot in range(start, common, BLOCK_N):
            n = slot + tl.arange(0, BLOCK_N)
            k = tl.load(keys + n[None, :] * stride_kn + d[:, None], mask=inside[:, None], other=0.0)
            seen = valid[:, None] & (n >= 0)[None, :]
            if WINDOW > 0:
                seen = seen & (n[None, :] > position[:, None] - WINDOW)
            v = tl.load(values + n[:, None] * stride_vn + d[None, :], mask=inside[None, :], other=0.0)
            maximum, total, sum_values = _add_keys(q, k, v, seen, scale, maximum, total, sum_values)
    for slot in range(common, end, BLOCK_N):
        n = slot + tl.arange(0, BLOCK_N)
        mask = n < end
        k = tl.load(keys + n[None, :] * stride_kn + d[:, None], mask=mask[None, :] & inside[:, None], other=0.0)
        seen = _seen_keys(
            n, mask, position, first, length, positions + batch * queries, paths + batch * queries * columns,
            query_index, valid, queries, columns, CAUSAL, TREE, WINDOW,
        )  # fmt: skip
        v = tl.load(values + n[:, None] * stride_vn + d[None, :], mask=mask[:, None] & inside[None, :], other=0.0)
        maximum, total, sum_values = _add_keys(q, k, v, seen, scale, maximum, total, sum_values)
    written = valid[:, None] & inside[None, :]
    if WHOLE:
        mean = sum_values / total[:, None]  # every query sees at least its own slot
        target = out_or_parts + batch * stride_ob + query_head * stride_oh + query_index * stride_on
        tl.store(target[:, None] + d[None, :], mean.to(out_or_parts.dtype.element_ty), mask=written)
    else:
        cell = (head_index * splits + split) * rows + m
        tl.store(maxima + cell, maximum, mask=valid)
        tl.store(sums + cell, total, mask=valid)
        tl.store(out_or_parts + cell[:, None] * SIZE + d[None, :], sum_values, mask=written)


@triton.jit
def partial(
    query,
    key,
    value,
    positions,
    lengths,
    paths,
    out_or_parts,
    maxima,
    sums,
    scale,
    stride_qb,
    stride_qh,
    stride_qn,
    stride_kb,
    stride_kh,
    stride_kn,
    stride_vb,
    stride_vh,
    stride_vn,
    stride_ob,
    stride_oh,
    stride_on,
    heads,
    queries,
    columns,
    rows,
    splits,
    WHOLE: tl.constexpr,
    QUERIES: tl.constexpr,
    WINDOW: tl.constexpr,
    CAUSAL: tl.constexpr,
    TREE: tl.constexpr,
    SIZE: tl.constexpr,
    PADDED: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    EARLY: tl.constexpr,
):
    wait(EARLY)
    sum_split(
        query, key, value, positions, lengths, paths, out_or_parts, maxima, sums, scale,
        stride_qb, stride_qh, stride_qn, stride_kb, stride_kh, stride_kn, stride_vb, stride_vh, stride_vn,
        stride_ob, stride_oh, stride_on, heads, queries, columns, rows, splits,
        tl.program_id(0), tl.program_id(1), tl.program_id(2),
        WHOLE, QUERIES, WINDOW, CAUSAL, TREE, SIZE, PADDED, BLOCK_M, BLOCK_N,
    )  # fmt: skip


@triton.jit
def combine_row(
    parts, maxima, sums, out, stride_ob, stride_oh, stride_on, heads, queries, rows, splits, head_index, m,
    SIZE: tl.constexpr, PADDED: tl.constexpr, SPLITS: tl.constexpr,
):  # fmt: skip
    """Weigh together what the splits left of row m of a key head's queries."""
    batch = (head_index // heads).to(tl.int64)  # places can be beyond 32 bits
    head = (head_index % heads).to(tl.int64)
    groups = rows // queries
    d = tl.arange(0, PADDED)
    inside = d < SIZE
    s = tl.arange(0, SPLITS)
    cell = (head_index * splits + s) * rows + m
    # All is asked for before anything is waited for: a sum over the splits would hold up what is loaded behind it.
    maximum = tl.load(maxima + cell, mask=s < splits, other=float("-inf"))
    part = tl.load(sums + cell, mask=s < splits, other=0.0)
    values = tl.load(parts + cell[:, None] * SIZE + d[None, :], mask=(s < splits)[:, None] & inside[None, :], other=0.0)
    largest = tl.max(maximum, 0)  # every query sees at least its own slot
    weights = tl.exp(maximum - largest)
    numerator, denominator = tl.sum(values * weights[:, None], 0), tl.sum(weights * part, 0)
    query_in_group, query_index = m // queries, m % queries
    target = out + batch * stride_ob + (head * groups + query_in_group) * stride_oh + query_index * stride_on
    tl.store(target + d, (numerator / denominator).to(out.dtype.element_ty), mask=inside)


@triton.jit
def combine(
    parts,
    maxima,
    sums,
    out,
    stride_ob,
    stride_oh,
    stride_on,
    heads,
    queries,
    rows,
    splits,
    SIZE: tl.constexpr,
    PADDED: tl.constexpr,
    SPLITS: tl.constexpr,
    EARLY: tl.constexpr,
):
    wait(EARLY)
    combine_row(
        parts, maxima, sums, out, stride_ob, stride_oh, stride_on, heads, queries, rows, splits,
        tl.program_id(0), tl.program_id(1), SIZE, PADDED, SPLITS,
    )  # fmt: skip
