"""The launch of attention for a scored draft and the blocks beside it at once (see `triton_beside_kv.py`)."""

from __future__ import annotations

import torch
from torch import Tensor

from orthrus.kernels.launch import UNFUSED, early_launch
from orthrus.one_pass import Attending
from orthrus_attention.parts_of_keys import group_count, part_count
from orthrus_attention.split_layout import combining_warps, split_count, tile_sizes
from orthrus_attention.steady_kv import is_steady, layout_of


def attend_at_once(draft: Attending, blocks: Attending, scale: float) -> tuple[Tensor, Tensor] | None:
    """Return [1, H, n, D] of either kind, with the bits that each gets alone; None: each is to be attended for alone.

    So it is where a kind would need one kernel alone, or the two have not the layout in common that a launch has.
    """
    if not _fit(draft, blocks):
        return None
    from orthrus_attention import triton_beside_kv

    _, all_heads, queries, size = draft.query.shape
    other_queries, heads = blocks.query.shape[2], draft.key.shape[1]
    rows, other_rows = (all_heads // heads * count for count in (queries, other_queries))
    slots, other_slots = draft.key.shape[2], blocks.key.shape[2]
    layout = layout_of(rows, size, 2, heads, slots, tree=False)
    splits = group_count(slots) if layout.grouped else part_count(slots)
    other_m, other_n, warps = tile_sizes(other_rows, size, other_slots, 2)
    tiles, other_tiles = -(-rows // layout.rows), -(-other_rows // other_m)
    other_splits = split_count(heads, other_tiles, other_slots, other_rows)
    if other_splits == 1 or (layout.grouped and splits == 1):
        return None
    behind = heads * splits * rows
    places = behind + heads * other_splits * other_rows
    device, seen = draft.query.device, blocks.prepared.seen
    parts = torch.empty(places, size, dtype=torch.float32, device=device)
    maxima = torch.empty(places, dtype=torch.float32, device=device)
    sums = torch.empty_like(maxima)
    # [1, n, H, D] in memory, which is how the model's next projection wants it
    out = torch.empty(1, queries + other_queries, all_heads, size, dtype=draft.query.dtype, device=device)
    own, others = (kind.transpose(1, 2) for kind in (out[:, :queries], out[:, queries:]))
    window = draft.prepared.window
    cells, padded = max(16, 1 << (other_splits - 1).bit_length()), max(16, 1 << (size - 1).bit_length())
    shape = {
        "GROUPED": layout.grouped,
        "QUERIES": 1 << (queries - 1).bit_length() if window else 1,  # that all are looked at
        "WINDOW": window,
        "SIZE": size,
        "PADDED": padded,
        **early_launch(),
    }
    triton_beside_kv.partial[(heads, max(splits, other_splits), tiles + other_tiles)](
        draft.query,
        blocks.query,
        draft.key,
        draft.value,
        draft.prepared.positions,
        blocks.prepared.positions,
        draft.prepared.lengths,
        blocks.prepared.lengths,
        seen.view(torch.uint8),
        parts,
        maxima,
        sums,
        behind,
        scale,
        *draft.query.stride()[1:3],
        *draft.key.stride()[1:3],
        *draft.value.stride()[1:3],
        heads,
        queries,
        rows,
        splits,
        tiles,
        other_queries,
        other_rows,
        other_splits,
        seen.shape[2],
        OTHER_QUERIES=1 << (other_queries - 1).bit_length(),
        BLOCK_M=layout.rows,
        BLOCK_N=layout.slots,
        OTHER_M=other_m,
        OTHER_N=other_n,
        num_warps=warps,  # on which the blocks' bits depend, and the draft's do not
        **UNFUSED,
        **shape,
    )
    triton_beside_kv.folded[(heads, rows + other_rows)](
        parts,
        maxima,
        sums,
        behind,
        draft.prepared.positions,
        own,
        others,
        *own.stride()[1:3],
        heads,
        queries,
        rows,
        splits,
        other_queries,
        other_rows,
        other_splits,
        OTHER_SPLITS=cells,
        num_warps=combining_warps(cells, padded),
        **shape,
    )
    return own, others


def _fit(draft: Attending, blocks: Attending) -> bool:
    """Tell whether one launch may take both: a row in 16 bits that is scored steadily, over the same keys."""
    batch, _, queries, _ = draft.query.shape
    width = draft.query.element_size()
    kinds = draft.prepared.kind == "causal" and blocks.prepared.kind == "blocks"
    steady = kinds and batch == 1 and width == 2 and is_steady(1, queries, draft.key.shape[2], "causal", width)
    if not steady or draft.query.stride() != blocks.query.stride() or draft.query.stride(3) != 1:
        return False
    return _one_buffer(draft.key, blocks.key) and _one_buffer(draft.value, blocks.value)


def _one_buffer(mine: Tensor, other: Tensor) -> bool:
    """Tell whether two are the same buffer, up to how many slots of it there are."""
    return mine.stride() == other.stride() and mine.data_ptr() == other.data_ptr()
