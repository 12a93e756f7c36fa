"""The attention backend `split`: for a few queries over long keys on a GPU, without masks and without copies."""

from __future__ import annotations

import torch
from torch import Tensor

from orthrus import AttentionCapabilities, BuildError, MaskDescription, Parts
from orthrus.kernels.launch import UNFUSED, early_launch
from orthrus.kernels.normed import Normed
from orthrus.one_pass import Attending
from orthrus_attention import projected_kv
from orthrus_attention.beside_kv import attend_at_once
from orthrus_attention.masks import ALL_KINDS
from orthrus_attention.parts_of_keys import group_count
from orthrus_attention.prepared_pass import Prepared
from orthrus_attention.split_layout import combining_warps, split_count, tile_sizes
from orthrus_attention.steady_kv import MOST_PARTS, MOST_SLOTS, attend_steadily, is_steady
from orthrus_attention.unsupported import refuse


class SplitAttention:
    """Give each stretch of slots to its own program, then weigh the stretches together."""

    capabilities = AttentionCapabilities(
        devices=frozenset({"cuda"}),
        dtypes=frozenset({"float32", "bfloat16", "float16"}),
        kinds=ALL_KINDS,
        steady=True,
        most_steady_slots=MOST_SLOTS,
        most_steady_tokens=MOST_PARTS // group_count(MOST_SLOTS),
    )

    def prepare(self, mask: MaskDescription, window: int | None, dtype: torch.dtype) -> Prepared:
        """Return positions and lengths, one row after the other; nothing is built."""
        seen = None if mask.paths is None else mask.paths.contiguous()
        positions, lengths = mask.positions.contiguous(), mask.lengths.contiguous()
        return Prepared(positions, lengths, window or 0, mask.kind == "causal", seen)

    def attend(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        prepared: Prepared,
        *,
        scale: float,
        softcap: float | None = None,
        sinks: Tensor | None = None,
    ) -> Tensor:
        """Return [B, H, n, D]; raise BuildError for a model with soft-capped scores or sinks."""
        refuse("split", softcap, sinks)
        return _attend(query, key, value, prepared, scale)

    def attend_beside(self, draft: Attending, blocks: Attending, *, scale: float) -> tuple[Tensor, Tensor] | None:
        """Return [1, H, n, D] of a scored draft's queries, and of the blocks' beside it; None: attend for each."""
        return attend_at_once(draft, blocks, scale)

    def attend_added(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        prepared: Prepared,
        *,
        scale: float,
        weight: Tensor,
        residual: Tensor,
        norm: Tensor,
    ) -> Normed | None:
        """Add attention's result times weight [E, H D] to the residual [1, 1, E], of one query of a small model."""
        if not projected_kv.fits(query, key, prepared, weight):
            return None
        return projected_kv.attend_added(query, key, value, prepared, scale, weight, residual, norm)


def _attend(query: Tensor, key: Tensor, value: Tensor, prepared: Prepared, scale: float) -> Tensor:
    from orthrus_attention import triton_split_kv

    batch, all_heads, queries, size = query.shape
    heads, slots = key.shape[1], key.shape[2]
    rows = all_heads // heads * queries
    if is_steady(batch, queries, slots, prepared.kind, query.element_size()):
        return attend_steadily(query, key, value, prepared, scale)
    columns = queries if prepared.seen is None else prepared.seen.shape[2]
    block_m, block_n, warps = tile_sizes(rows, size, slots, query.element_size())
    tiles = -(-rows // block_m)
    splits = split_count(batch * heads, tiles, slots, rows)
    paths = prepared.positions if prepared.seen is None else prepared.seen.view(torch.uint8)
    whole = splits == 1
    # [B, n, H, D] in memory, which is how the model's next projection wants it
    out = torch.empty(batch, queries, all_heads, size, dtype=query.dtype, device=query.device).transpose(1, 2)
    places = 0 if whole else batch * heads * splits * rows
    out_or_parts = out if whole else torch.empty(places, size, dtype=torch.float32, device=query.device)
    maxima = torch.empty(places, dtype=torch.float32, device=query.device)
    sums = torch.empty_like(maxima)
    early = early_launch()
    padded = max(16, 1 << (size - 1).bit_length())  # what a matrix product of Triton needs at least
    query = query if query.stride(3) == 1 else query.contiguous()
    triton_split_kv.partial[(batch * heads, splits, tiles)](
        query,
        key,
        value,
        prepared.positions,
        prepared.lengths,
        paths,
        out_or_parts,
        maxima,
        sums,
        scale,
        *query.stride()[:3],
        *key.stride()[:3],
        *value.stride()[:3],
        *out.stride()[:3],
        heads,
        queries,
        columns,
        rows,
        splits,
        WHOLE=whole,
        QUERIES=1 << (queries - 1).bit_length(),
        WINDOW=prepared.window,
        CAUSAL=prepared.causal,
        TREE=prepared.seen is not None,
        SIZE=size,
        PADDED=padded,
        BLOCK_M=block_m,
        BLOCK_N=block_n,
        num_warps=warps,
        **UNFUSED,  # as `beside_kv`, so that blocks have the same bits by both
        **early,
    )
    if whole:
        return out
    cells = max(16, 1 << (splits - 1).bit_length())
    triton_split_kv.combine[(batch * heads, rows)](
        out_or_parts,
        maxima,
        sums,
        out,
        *out.stride()[:3],
        heads,
        queries,
        rows,
        splits,
        SIZE=size,
        PADDED=padded,
        SPLITS=cells,
        num_warps=combining_warps(cells, padded),
        **early,
    )
    return out


def make(options: object, parts: Parts) -> SplitAttention:
    """Return the backend; raise BuildError where Triton is missing."""
    try:
        import triton  # noqa: F401
    except ImportError:
        raise BuildError("attention 'split' needs the package triton and a GPU; set attention.name=sdpa") from None
    return SplitAttention()
