"""The layout and the launch of attention whose bits do not depend on the rest of a pass (see `triton_steady_kv.py`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from orthrus.kernels.launch import UNFUSED, early_launch
from orthrus_attention.parts_of_keys import FIRST_GROUP, group_count, part_count
from orthrus_attention.prepared_pass import Prepared

MOST_SLOTS = 16_384  # a text of 8,192 tokens with a draft is in a bucket of so many
MOST_TREE_TOKENS = 160  # of all rows; every token of a tree has a program of its own for each head of keys
MOST_PARTS = 8192  # tokens times groups of parts, which are left in memory
FEW_QUERIES, FEW_SLOTS = 16, 1024  # of a row's block, whose bits decide no text: beyond, it is laid out for speed
# So that a multiprocessor of NVIDIA's has room for three programs of a tree over few slots, and not for two.
SMALL_PROGRAMS: dict[str, Any] = {"maxnreg": 168, "num_stages": 2} if torch.version.hip is None else {}
ENOUGH, MORE = 96, 256  # programs that fill a GPU without a part for each, up to FEW_SLOTS and beyond


@dataclass(frozen=True)
class Layout:
    """What a program takes: rows of queries, slots at a time, warps, and a part or a group of them."""

    rows: int
    slots: int
    warps: int
    grouped: bool


def is_steady(
    batch: int, queries: int, slots: int, kind: Literal["causal", "block", "tree", "blocks"], width: int = 2
) -> bool:
    """Tell whether the kernels here take a pass: then a query gets the bits that it gets alone.

    queries: of each row. width: bytes of a number.
    """
    if kind == "block":
        return queries <= FEW_QUERIES and slots <= FEW_SLOTS
    tokens = batch * queries
    if kind == "blocks" or slots > MOST_SLOTS or (width > 2 and tokens > MOST_TREE_TOKENS):
        return False
    groups = group_count(slots)
    return tokens <= MOST_TREE_TOKENS or (kind == "causal" and (groups == 1 or tokens * groups <= MOST_PARTS))


def layout_of(rows: int, size: int, width: int, heads: int, slots: int, tree: bool) -> Layout:
    """Return the fastest layout: all give the same bits, but for another number of slots at a time.

    rows: of queries that share a key head. size: of a head. width: bytes of a number. heads: of keys, of all rows.
    """
    if width > 2:  # products of float32 numbers have no tensor cores, and large ones no room in registers
        count, at_a_time, warps = (16 if rows <= 16 or size > 64 else 32), (64 if size <= 64 else 32), 4
    else:
        few = rows <= 16 or (rows <= 64 and slots <= FEW_SLOTS)
        count, at_a_time = (16 if few else 32 if rows <= 32 else 64), (64 if size <= 128 else 32)
        warps = 8 if size > 128 and count == 64 else 4
    programs = heads * (1 if count == 16 else -(-rows // count)) * group_count(slots)
    if slots <= FEW_SLOTS:  # one group, in which a tree's texts differ
        return Layout(count, at_a_time, warps, not tree and programs >= ENOUGH)
    return Layout(count, at_a_time, warps, programs >= MORE)


@dataclass(frozen=True, eq=False)
class LeftParts:
    """The parts of a softmax that `partial` leaves, or groups of them; whole: there is one, and it is the result."""

    whole: bool
    out: Tensor  # [B, H, n, D]
    values: Tensor  # [B, H_kv, splits, rows, D]; of the whole, `out`
    maxima: Tensor  # [B, H_kv, splits, rows]
    sums: Tensor
    splits: int
    rows: int  # of queries that share a key head
    shape: Mapping[str, Any]  # that both kernels are compiled for


def attend_steadily(query: Tensor, key: Tensor, value: Tensor, prepared: Prepared, scale: float) -> Tensor:
    """Return [B, H, n, D] for queries [B, H, n, D] and keys and values [B, H_kv, C, D]."""
    from orthrus_attention import triton_steady_kv

    left = leave_parts(query, key, value, prepared, scale)
    if not left.whole:
        batch, heads, queries = query.shape[0], key.shape[1], query.shape[2]
        triton_steady_kv.folded[(batch * heads, left.rows)](
            left.values,
            left.maxima,
            left.sums,
            prepared.positions,
            prepared.lengths,
            left.out,
            *left.out.stride()[:3],
            heads,
            queries,
            left.rows,
            left.splits,
            num_warps=max(1, left.shape["PADDED"] // 128),
            **left.shape,
        )
    return left.out


def layout_of_pass(query: Tensor, key: Tensor, tree: bool) -> Layout:
    """Return the layout of a pass of queries [B, H, n, D] over keys [B, H_kv, C, D]."""
    batch, all_heads, queries, size = query.shape
    heads, slots = key.shape[1], key.shape[2]
    return layout_of(all_heads // heads * queries, size, query.element_size(), batch * heads, slots, tree)


def leave_parts(query: Tensor, key: Tensor, value: Tensor, prepared: Prepared, scale: float) -> LeftParts:
    """Return the parts of `attend_steadily`, not folded yet."""
    from orthrus_attention import triton_steady_kv

    batch, all_heads, queries, size = query.shape
    heads, slots = key.shape[1], key.shape[2]
    groups = all_heads // heads
    rows, tree = groups * queries, prepared.seen is not None
    layout = layout_of_pass(query, key, tree)
    splits = group_count(slots) if layout.grouped and not tree else part_count(slots)
    whole = layout.grouped and splits == 1
    # [B, n, H, D] in memory, which is how the model's next projection wants it
    out = torch.empty(batch, queries, all_heads, size, dtype=query.dtype, device=query.device).transpose(1, 2)
    places = 0 if whole else batch * heads * splits * rows
    parts = out if whole else torch.empty(places, size, dtype=torch.float32, device=query.device)
    maxima = torch.empty(places, dtype=torch.float32, device=query.device)
    sums = torch.empty_like(maxima)
    query = query if query.stride(3) == 1 else query.contiguous()
    causal = prepared.causal or tree  # a tree's tokens in the order of their text
    shape = {
        "QUERIES": 1 if causal and not prepared.window else 1 << (queries - 1).bit_length(),  # that all are looked at
        "WINDOW": prepared.window,
        "CAUSAL": causal,
        "TREE": tree,
        "GROUPED": layout.grouped,
        "SIZE": size,
        "PADDED": max(16, 1 << (size - 1).bit_length()),  # what a matrix product of Triton needs at least
        **early_launch(),
    }
    tiles = -(-rows // layout.rows)
    common = group_count(slots) + FIRST_GROUP if layout.grouped else splits  # groups, and parts of the one that differs
    programs = (common * tiles + queries, 1) if tree else (splits, tiles)
    triton_steady_kv.partial[(batch * heads, *programs)](
        query,
        key,
        value,
        prepared.positions,
        prepared.lengths,
        prepared.columns if tree else prepared.positions,
        parts,
        maxima,
        sums,
        scale,
        *query.stride()[:3],
        *key.stride()[:3],
        *value.stride()[:3],
        *out.stride()[:3],
        heads,
        queries,
        rows,
        splits,
        common,
        WHOLE=whole,
        BLOCK_M=layout.rows,
        ALONE_M=max(16, 1 << (groups - 1).bit_length()),
        BLOCK_N=layout.slots,
        EXACT=query.element_size() == 2,
        num_warps=layout.warps,
        **UNFUSED,  # or a score that nothing can hide would be rounded less often than one that may be hidden
        **(SMALL_PROGRAMS if tree and query.element_size() == 2 and slots <= FEW_SLOTS else {}),
        **shape,
    )
    return LeftParts(whole, out, parts, maxima, sums, splits, rows, shape)
