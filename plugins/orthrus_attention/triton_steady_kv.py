"""Triton kernels: attention whose bits do not depend on what else is in a pass, the keys in parts by their position.

M = groups * n query rows share a key head. A part is a stretch of slots that is always the same: of 64 slots up to
1,024, 256 up to 8,192, and 1,024 beyond. Within it tiles of keys follow one another from nothing, as in FlashAttention;
the parts of a group, 16 of 64 slots or 4, are folded in order, and so are the groups. `partial` leaves parts, or groups
that it has folded itself (GROUPED), or of a single group the result (WHOLE); `folded` does the rest. All give the same
bits, and so do tiles of any number of rows: nothing is added up across threads but whole numbers, and products by
tensor cores, which add in the order of the keys.

A tree's tokens lie in the slots behind the committed ones, and each query takes its keys in the order of the text that
leads to it. In parts where texts differ every query has a program of its own, behind the others. Groups end before the
one in which texts begin to differ, whose parts are left one by one; of a group its first part's place is taken.
"""

from __future__ import annotations

import triton
import triton.language as tl

from orthrus.kernels.triton_wait import wait
from orthrus_attention import parts_of_keys

SMALL, MIDDLE, LARGE = (tl.constexpr(slots) for slots in parts_of_keys.SLOTS)  # slots of a part
FEW, SOME = (tl.constexpr(slots) for slots in parts_of_keys.ENDS)  # up to where parts are small, and middling
FIRST_GROUP, GROUP = tl.constexpr(parts_of_keys.FIRST_GROUP), tl.constexpr(parts_of_keys.GROUP)  # parts of a group
CHUNK = tl.constexpr(16)  # parts that are asked for at a time
ONE = tl.constexpr(0x3F800000)  # the bits of 1.0


@triton.jit
def first_slot(part):
    """Return the slot that a part begins with."""
    middling = FEW + (part - FIRST_GROUP) * MIDDLE
    few_parts: tl.constexpr = FIRST_GROUP + (SOME - FEW) // MIDDLE
    far = SOME + (part - few_parts) * LARGE
    return tl.where(part < FIRST_GROUP, part * SMALL, tl.where(part < few_parts, middling, far))


@triton.jit
def part_of(slot):
    """Return the part that a slot is in."""
    middling = FIRST_GROUP + (slot - FEW) // MIDDLE
    far = FIRST_GROUP + (SOME - FEW) // MIDDLE + (slot - SOME) // LARGE
    return tl.where(slot < FEW, slot // SMALL, tl.where(slot < SOME, middling, far))


@triton.jit
def first_part(group):
    """Return the part that a group begins with."""
    return tl.where(group > 0, FIRST_GROUP + (group - 1) * GROUP, 0)


@triton.jit
def group_of(part):
    """Return the group that a part is in."""
    return tl.where(part < FIRST_GROUP, 0, (part - FIRST_GROUP) // GROUP + 1)


@triton.jit
def weights_of(maximum, part_maximum):
    """Return the larger of two maxima, and what sums under each are multiplied by."""
    higher = tl.maximum(maximum, part_maximum)
    anchor = tl.where(higher == float("-inf"), 0.0, higher)  # a row that has seen no key yet
    return higher, tl.exp(maximum - anchor), tl.exp(part_maximum - anchor)


@triton.jit
def _add_keys(q, k, v, seen, scale, maximum, total, sum_values, EXACT: tl.constexpr, ALL: tl.constexpr):
    """Return the softmax so far with the keys k [D, N] and values v [N, D], of which seen [M, N] are seen.

    ALL: all are, by all rows, which takes no look at them: bits are the same.
    """
    scores = tl.dot(q, k, input_precision="ieee") * scale
    if not ALL:
        scores = tl.where(seen, scores, float("-inf"))
    higher = tl.maximum(maximum, tl.max(scores, 1))
    anchor = tl.where(higher == float("-inf"), 0.0, higher)
    weights = tl.exp(scores - anchor[:, None])
    shrink = tl.exp(maximum - anchor)
    if not ALL:
        # What is hidden has a weight of 0, and 0 * NaN is NaN: a draft's values must not reach the tokens before it.
        v = tl.where((v > float("-inf")) & (v < float("inf")), v, 0.0).to(v.dtype)
    sum_values = tl.dot(weights.to(v.dtype), v, sum_values * shrink[:, None], input_precision="ieee")
    if EXACT:  # weights are at most 1: as multiples of 2 ** -23 their sum is exact, whoever adds what
        count = tl.sum((1.0 + weights).to(tl.int32, bitcast=True) - ONE, 1)
        added = count.to(tl.float32) * (2.0**-23)
    else:
        added = tl.sum(weights, 1)
    return higher, tl.fma(total, shrink, added), sum_values


@triton.jit
def _part_folded(group_maximum, group_total, group_values, maximum, total, sum_values):
    """Return what a group's parts sum up to with one more."""
    higher, keep, weigh = weights_of(group_maximum, maximum)
    total = tl.fma(group_total, keep, total * weigh)
    return higher, total, tl.fma(group_values, keep[:, None], sum_values * weigh[:, None])


@triton.jit
def _query_of(m, groups, queries, TREE: tl.constexpr):
    """Return which head of its group and which query a row m of queries is."""
    if TREE:
        head, query = m % groups, m // groups
    else:
        head, query = m // queries, m % queries
    return head, query


@triton.jit
def _reach(positions, position, batch, queries, QUERIES: tl.constexpr, CAUSAL: tl.constexpr):
    """Return the lowest position of a row's queries and the highest that a query at `position` sees."""
    each = tl.arange(0, QUERIES)
    first = tl.min(tl.load(positions + batch * queries + each, mask=each < queries, other=2147483647), 0)
    last = position
    if not CAUSAL:
        last = tl.max(tl.load(positions + batch * queries + each, mask=each < queries, other=-1), 0)
    return first.to(tl.int32), last.to(tl.int32)


@triton.jit
def _places_on_path(n, end, length, position, path, ALONE: tl.constexpr):
    """Return in which slots the tokens n [N] of the text that leads to a query are.

    ALONE: where the columns on its path are, by depth, is told by `path`; else all are committed.
    """
    place = n
    if ALONE:
        depth = n - length
        column = tl.load(path + depth, mask=(depth >= 0) & (n < end) & (n <= position), other=0)
        place = tl.where(depth >= 0, length + column, n)
    return place


@triton.jit
def leave(
    query, key, value, positions, lengths, paths, out_or_parts, maxima, sums, scale,
    stride_qb, stride_qh, stride_qn, stride_kb, stride_kh, stride_kn, stride_vb, stride_vh, stride_vn,
    stride_ob, stride_oh, stride_on, heads, queries, rows, splits, part, end_part, split, first_row, last_row,
    ALONE: tl.constexpr, WHOLE: tl.constexpr, GROUPED: tl.constexpr, QUERIES: tl.constexpr, WINDOW: tl.constexpr,
    CAUSAL: tl.constexpr, TREE: tl.constexpr, SIZE: tl.constexpr, PADDED: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, EXACT: tl.constexpr,
):  # fmt: skip
    """Leave what rows of a key head's queries, from `first_row` on, sum up over a part, or a group of them.

    part, end_part: the first, and the one behind the last. split: the place that the sums are left at.
    """
    head_index = tl.program_id(0)
    batch = (head_index // heads).to(tl.int64)  # places can be beyond 32 bits
    head = (head_index % heads).to(tl.int64)
    groups = rows // queries
    m = first_row + tl.arange(0, BLOCK_M)
    valid = m < last_row
    query_in_group, query_index = _query_of(m, groups, queries, TREE)
    query_head = head * groups + query_in_group
    d = tl.arange(0, PADDED)
    inside = d < SIZE
    position = tl.load(positions + batch * queries + query_index, mask=valid, other=0)
    # Columns may be in any order (a prefill rolls them), so the lowest and highest position are looked for.
    farthest = tl.max(tl.where(valid, position, -1), 0)
    first, last = _reach(positions, farthest, batch, queries, QUERIES, CAUSAL)
    length = tl.load(lengths + batch).to(tl.int32)

    leaf = first_slot(part + 1) - first_slot(part)  # slots of each part of the group
    begin, end = first_slot(part), tl.minimum(first_slot(end_part), last + 1)
    lowest = 0
    if WINDOW > 0:
        lowest = tl.maximum(first - WINDOW + 1, 0)
    mine = (begin < end) & (first_slot(end_part) > lowest)
    if TREE:  # the parts up to where texts differ are the same for all queries
        differs = first_slot(end_part) > length
        mine = mine & (differs if ALONE else differs == 0)
    if mine:
        start = tl.maximum(begin, lowest // BLOCK_N * BLOCK_N)
        q = tl.load(
            query + batch * stride_qb + query_head[:, None] * stride_qh + query_index[:, None] * stride_qn + d[None, :],
            mask=valid[:, None] & inside[None, :],
            other=0.0,
        )
        maximum = tl.full([BLOCK_M], float("-inf"), tl.float32)
        total = tl.zeros([BLOCK_M], tl.float32)
        sum_values = tl.zeros([BLOCK_M, PADDED], tl.float32)
        if GROUPED:
            group_maximum = tl.full([BLOCK_M], float("-inf"), tl.float32)
            group_total = tl.zeros([BLOCK_M], tl.float32)
            group_values = tl.zeros([BLOCK_M, PADDED], tl.float32)
        keys = key + batch * stride_kb + head * stride_kh
        values = value + batch * stride_vb + head * stride_vh
        path = paths + (batch * queries + first_row // groups) * queries  # of a query alone
        committed = start
        if CAUSAL and WINDOW == 0 and not ALONE:  # what all rows see
            committed = start + tl.maximum(tl.minimum(end, length) - start, 0) // BLOCK_N * BLOCK_N
            for slot in range(start, committed, BLOCK_N):
                if GROUPED:  # noqa: SIM102  # which is known when it is compiled
                    if slot % leaf == 0:
                        group_maximum, group_total, group_values = _part_folded(
                            group_maximum, group_total, group_values, maximum, total, sum_values
                        )
                        maximum = tl.full([BLOCK_M], float("-inf"), tl.float32)
                        total = tl.zeros([BLOCK_M], tl.float32)
                        sum_values = tl.zeros([BLOCK_M, PADDED], tl.float32)
                n = slot + tl.arange(0, BLOCK_N)
                k = tl.load(keys + n[None, :] * stride_kn + d[:, None], mask=inside[:, None], other=0.0)
                v = tl.load(values + n[:, None] * stride_vn + d[None, :], mask=inside[None, :], other=0.0)
                maximum, total, sum_values = _add_keys(q, k, v, True, scale, maximum, total, sum_values, EXACT, True)
        for slot in range(committed, end, BLOCK_N):
            if GROUPED:  # noqa: SIM102  # which is known when it is compiled
                if slot % leaf == 0:
                    group_maximum, group_total, group_values = _part_folded(
                        group_maximum, group_total, group_values, maximum, total, sum_values
                    )
                    maximum = tl.full([BLOCK_M], float("-inf"), tl.float32)
                    total = tl.zeros([BLOCK_M], tl.float32)
                    sum_values = tl.zeros([BLOCK_M, PADDED], tl.float32)
            n = slot + tl.arange(0, BLOCK_N)
            mask = n < end
            place = _places_on_path(n, end, length, farthest, path, ALONE)
            k_mask, v_mask = mask[None, :] & inside[:, None], mask[:, None] & inside[None, :]
            k = tl.load(keys + place[None, :] * stride_kn + d[:, None], mask=k_mask, other=0.0)
            if CAUSAL:
                seen = mask[None, :] & (n[None, :] <= position[:, None])
            else:
                seen = mask[None, :] & ((n[None, :] < length) | (n[None, :] >= first))
            if WINDOW > 0:
                seen = seen & (n[None, :] > position[:, None] - WINDOW)
            v = tl.load(values + place[:, None] * stride_vn + d[None, :], mask=v_mask, other=0.0)
            maximum, total, sum_values = _add_keys(q, k, v, seen, scale, maximum, total, sum_values, EXACT, False)
        if GROUPED:
            maximum, total, sum_values = _part_folded(
                group_maximum, group_total, group_values, maximum, total, sum_values
            )
        written = valid[:, None] & inside[None, :]
        if WHOLE:
            mean = sum_values / total[:, None]  # every query sees at least its own slot
            target = out_or_parts + batch * stride_ob + query_head * stride_oh + query_index * stride_on
            tl.store(target[:, None] + d[None, :], mean.to(out_or_parts.dtype.element_ty), mask=written)
        else:
            cell = (head_index * splits + split) * rows + m
            tl.store(maxima + cell, maximum, mask=valid)
            tl.store(sums + cell, total, mask=valid)
            tl.store(out_or_parts + cell[:, None].to(tl.int64) * SIZE + d[None, :], sum_values, mask=written)


@triton.jit
def parts_of_split(split, GROUPED: tl.constexpr):
    """Return the first part of a split, and the one behind its last."""
    part, end_part = split, split + 1
    if GROUPED:
        part, end_part = first_part(split), first_part(split + 1)
    return part, end_part


@triton.jit
def _common_parts(index, common, length, GROUPED: tl.constexpr):
    """Return, of a tree, the part that begins and the one that ends what programs of number `index` sum up.

    GROUPED: groups come first, then the parts of the group in which texts differ. What is not common to all queries
    is left out by `leave`.
    """
    part, end_part = index, index + 1
    if GROUPED:
        single = first_part(group_of(part_of(length))) + index - (common - FIRST_GROUP)
        grouped = index < common - FIRST_GROUP
        part = tl.where(grouped, first_part(index), single)
        end_part = tl.where(grouped, first_part(index + 1), single + 1)
    return part, end_part


@triton.jit(do_not_specialize=["queries", "rows", "splits", "common"])  # or it is compiled again as drafts grow
def partial(
    query, key, value, positions, lengths, paths, out_or_parts, maxima, sums, scale,
    stride_qb, stride_qh, stride_qn, stride_kb, stride_kh, stride_kn, stride_vb, stride_vh, stride_vn,
    stride_ob, stride_oh, stride_on, heads, queries, rows, splits, common,
    WHOLE: tl.constexpr, GROUPED: tl.constexpr, QUERIES: tl.constexpr, WINDOW: tl.constexpr, CAUSAL: tl.constexpr,
    TREE: tl.constexpr, SIZE: tl.constexpr, PADDED: tl.constexpr, BLOCK_M: tl.constexpr, ALONE_M: tl.constexpr,
    BLOCK_N: tl.constexpr, EXACT: tl.constexpr, EARLY: tl.constexpr,
):  # fmt: skip
    wait(EARLY)
    tiles, groups = tl.cdiv(rows, BLOCK_M), rows // queries
    if TREE:
        length = tl.load(lengths + tl.program_id(0) // heads).to(tl.int32)
        program, shared = tl.program_id(1), tiles * common
        if program < shared:
            part, end_part = _common_parts(program // tiles, common, length, GROUPED)
            leave(
                query, key, value, positions, lengths, paths, out_or_parts, maxima, sums, scale,
                stride_qb, stride_qh, stride_qn, stride_kb, stride_kh, stride_kn, stride_vb, stride_vh, stride_vn,
                stride_ob, stride_oh, stride_on, heads, queries, rows, splits, part, end_part, part,
                program % tiles * BLOCK_M, rows,
                False, WHOLE, GROUPED, QUERIES, WINDOW, CAUSAL, TREE, SIZE, PADDED, BLOCK_M, BLOCK_N, EXACT,
            )  # fmt: skip
        else:
            alone = program - shared
            position = tl.load(positions + tl.program_id(0) // heads * queries + alone).to(tl.int32)
            for part in range(part_of(length), tl.minimum(part_of(position) + 1, splits)):
                leave(
                    query, key, value, positions, lengths, paths, out_or_parts, maxima, sums, scale,
                    stride_qb, stride_qh, stride_qn, stride_kb, stride_kh, stride_kn, stride_vb, stride_vh, stride_vn,
                    stride_ob, stride_oh, stride_on, heads, queries, rows, splits, part, part + 1, part,
                    alone * groups, (alone + 1) * groups,
                    True, WHOLE, False, QUERIES, WINDOW, CAUSAL, TREE, SIZE, PADDED, ALONE_M, BLOCK_N, EXACT,
                )  # fmt: skip
    else:
        split = tl.program_id(1)
        part, end_part = parts_of_split(split, GROUPED)
        leave(
            query, key, value, positions, lengths, paths, out_or_parts, maxima, sums, scale,
            stride_qb, stride_qh, stride_qn, stride_kb, stride_kh, stride_kn, stride_vb, stride_vh, stride_vn,
            stride_ob, stride_oh, stride_on, heads, queries, rows, splits, part, end_part, split,
            tl.program_id(2) * BLOCK_M, rows,
            False, WHOLE, GROUPED, QUERIES, WINDOW, CAUSAL, TREE, SIZE, PADDED, BLOCK_M, BLOCK_N, EXACT,
        )  # fmt: skip


@triton.jit
def _chunk_folded(
    parts, maxima, sums, cells, first, lowest, last, rows, d, maximum, total, values,
    SIZE: tl.constexpr, PADDED: tl.constexpr, FOLD: tl.constexpr, AT_PARTS: tl.constexpr,
):  # fmt: skip
    """Return what was folded with CHUNK parts from `first` on, in order, each FOLD of them folded before.

    AT_PARTS: they are groups, which were left at the places of their first parts.
    """
    held_maxima, held_sums, held_values = (), (), ()
    for index in tl.static_range(CHUNK):  # all is asked for before anything is waited for
        part = first + index
        there = (part >= lowest) & (part <= last)
        place = first_part(part) if AT_PARTS else part
        cell = cells + place.to(tl.int64) * rows
        part_maximum = tl.load(maxima + cell, mask=there, other=float("-inf"))
        part_total = tl.load(sums + cell, mask=there, other=0.0)
        part_values = tl.load(parts + cell * SIZE + d, mask=d < tl.where(there, SIZE, 0), other=0.0)
        held_maxima = held_maxima + (part_maximum,)  # type: ignore[assignment]  # to Triton it is one of any length
        held_sums = held_sums + (part_total,)  # type: ignore[assignment]
        held_values = held_values + (part_values,)  # type: ignore[assignment]
    for group in tl.static_range(CHUNK // FOLD):
        group_maximum = held_maxima[group * FOLD]  # type: ignore[var-annotated]
        group_total = held_sums[group * FOLD]  # type: ignore[var-annotated]
        group_values = held_values[group * FOLD]  # type: ignore[var-annotated]
        for index in tl.static_range(1, FOLD):
            group_maximum, keep, weigh = weights_of(group_maximum, held_maxima[group * FOLD + index])
            group_total = tl.fma(group_total, keep, held_sums[group * FOLD + index] * weigh)
            group_values = tl.fma(group_values, keep, held_values[group * FOLD + index] * weigh)
        maximum, keep, weigh = weights_of(maximum, group_maximum)
        total = tl.fma(total, keep, group_total * weigh)
        values = tl.fma(values, keep, group_values * weigh)
    return maximum, total, values


@triton.jit
def _parts_folded(
    parts, maxima, sums, cells, start, lowest, last, rows, d, maximum, total, values,
    SIZE: tl.constexpr, PADDED: tl.constexpr,
):  # fmt: skip
    """Return what was folded with the groups of the parts from `start` on, which begins one, up to `last`."""
    if tl.maximum(start, lowest) < FIRST_GROUP:
        maximum, total, values = _chunk_folded(
            parts, maxima, sums, cells, 0, lowest, last, rows, d, maximum, total, values, SIZE, PADDED, CHUNK, False
        )  # fmt: skip
    first = tl.maximum(tl.maximum(FIRST_GROUP, start), lowest // CHUNK * CHUNK)
    for chunk in range(first, last + 1, CHUNK):
        maximum, total, values = _chunk_folded(
            parts, maxima, sums, cells, chunk, lowest, last, rows, d, maximum, total, values, SIZE, PADDED, GROUP, False
        )  # fmt: skip
    return maximum, total, values


@triton.jit
def fold_row(
    parts, maxima, sums, positions, lengths, out, stride_ob, stride_oh, stride_on, heads, queries, rows, splits,
    head_index, m,
    SIZE: tl.constexpr, PADDED: tl.constexpr, GROUPED: tl.constexpr, QUERIES: tl.constexpr, WINDOW: tl.constexpr,
    CAUSAL: tl.constexpr, TREE: tl.constexpr,
):  # fmt: skip
    """Fold what was left of row m of a key head's queries."""
    batch = (head_index // heads).to(tl.int64)  # places can be beyond 32 bits
    head = (head_index % heads).to(tl.int64)
    groups = rows // queries
    query_in_group, query_index = _query_of(m, groups, queries, TREE)
    d = tl.arange(0, PADDED)
    inside = d < SIZE
    position = tl.load(positions + batch * queries + query_index)
    _, last = _reach(positions, position, batch, queries, QUERIES, CAUSAL)
    lowest = tl.full([], 0, tl.int32)
    if WINDOW > 0:  # what no query of the row sees was not written
        lowest = part_of(tl.maximum(position.to(tl.int32) - WINDOW + 1, 0))
    last = part_of(last)
    cells = head_index.to(tl.int64) * splits * rows + m
    maximum, total = tl.full([], float("-inf"), tl.float32), tl.full([], 0.0, tl.float32)
    values = tl.zeros([PADDED], tl.float32)
    start = 0
    if GROUPED:
        last_group = group_of(last)
        if TREE:  # the groups before that in which texts differ
            last_group = group_of(part_of(tl.load(lengths + batch).to(tl.int32))) - 1
            start = first_part(last_group + 1)
        first_group = group_of(lowest)
        for chunk in range(first_group // CHUNK * CHUNK, last_group + 1, CHUNK):
            maximum, total, values = _chunk_folded(
                parts, maxima, sums, cells, chunk, first_group, last_group, rows, d, maximum, total, values,
                SIZE, PADDED, 1, TREE,
            )  # fmt: skip
    if TREE or not GROUPED:
        maximum, total, values = _parts_folded(
            parts, maxima, sums, cells, start, lowest, last, rows, d, maximum, total, values, SIZE, PADDED
        )
    target = out + batch * stride_ob + (head * groups + query_in_group) * stride_oh + query_index * stride_on
    tl.store(target + d, (values / total).to(out.dtype.element_ty), mask=inside)


@triton.jit(do_not_specialize=["queries", "rows", "splits"])  # or it is compiled again as drafts grow
def folded(
    parts, maxima, sums, positions, lengths, out, stride_ob, stride_oh, stride_on, heads, queries, rows, splits,
    SIZE: tl.constexpr, PADDED: tl.constexpr, GROUPED: tl.constexpr, QUERIES: tl.constexpr, WINDOW: tl.constexpr,
    CAUSAL: tl.constexpr, TREE: tl.constexpr, EARLY: tl.constexpr,
):  # fmt: skip
    wait(EARLY)
    fold_row(
        parts, maxima, sums, positions, lengths, out, stride_ob, stride_oh, stride_on, heads, queries, rows, splits,
        tl.program_id(0), tl.program_id(1), SIZE, PADDED, GROUPED, QUERIES, WINDOW, CAUSAL, TREE,
    )  # fmt: skip
