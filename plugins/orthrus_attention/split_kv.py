"""The attention backend `split`: for a few queries over long keys on a GPU, without masks and without copies."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from orthrus import AttentionCapabilities, BuildError, MaskDescription, Parts
from orthrus.kernels.launch import early_launch
from orthrus_attention.masks import ALL_KINDS
from orthrus_attention.unsupported import refuse

PROGRAMS = 512  # enough to fill today's GPUs a few times over
SMALLEST_SPLIT = 64  # slots; below it, weighing the splits together costs more than it saves
MOST_SPLITS = 64
ENOUGH, FEW_SLOTS = 96, 1024  # so many programs need no splits of so few slots, which leaves out a kernel
FEW_QUERIES = 16  # of a row; over few slots they are tiled and split as one alone would be, and get the bits it gets
SMALL_HEAD, MANY_QUERIES, MANY_SLOTS = 64, 96, 4096  # of heads that are small, as those of small models, as many are

NUMBERS_A_WARP = 2048  # that splits left, 64 for a thread: few warps have the least to tell one another


@dataclass(frozen=True, eq=False)
class Prepared:
    """The inputs of the kernels: positions [B, n] and lengths [B]; window 0 is none.

    seen [B, n, n]: of a tree; [B, n, m]: of blocks, behind m - n columns of a scored draft.
    """

    positions: Tensor
    lengths: Tensor
    window: int
    causal: bool
    seen: Tensor | None = None

    @cached_property
    def columns(self) -> Tensor:
        """[B, n, n] int32: of each column of a tree the column that its path leads through at each depth, from 0 on.

        Beyond a path's end stands anything: no query looks there.
        """
        assert self.seen is not None, "a tree is described by its paths"
        width = self.seen.shape[1]
        indices = torch.arange(width, dtype=torch.int32, device=self.seen.device)
        depths = (self.positions - self.lengths[:, None])[:, None].expand(-1, width, -1)
        depths = torch.where(self.seen, depths, width)  # what is not on the path goes behind it
        columns = torch.zeros(*self.seen.shape[:2], width + 1, dtype=torch.int32, device=self.seen.device)
        columns.scatter_(2, depths, indices.expand(self.seen.shape))
        return columns[..., :width].contiguous()


class SplitAttention:
    """Give each stretch of slots to its own program, then weigh the stretches together."""

    capabilities = AttentionCapabilities(
        devices=frozenset({"cuda"}), dtypes=frozenset({"float32", "bfloat16", "float16"}), kinds=ALL_KINDS
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


def _attend(query: Tensor, key: Tensor, value: Tensor, prepared: Prepared, scale: float) -> Tensor:
    from orthrus_attention import triton_split_kv

    batch, all_heads, queries, size = query.shape
    heads, slots = key.shape[1], key.shape[2]
    rows = all_heads // heads * queries
    columns = queries if prepared.seen is None else prepared.seen.shape[2]
    scores = prepared.causal or (prepared.seen is not None and columns == queries)  # a block's bits decide no text
    batch_invariant = is_batch_invariant(queries, slots, size if scores else None, batch * heads)
    block_m, block_n, warps = tile_sizes(rows, size, slots, query.element_size(), batch_invariant)
    tiles = -(-rows // block_m)
    splits = split_count(batch * heads, tiles, slots, block_n if batch_invariant else 0)
    tree, paths = 0, prepared.positions  # which paths are of no chain
    if prepared.seen is not None:
        in_order = batch_invariant and scores
        tree, paths = (2, prepared.columns) if in_order else (1, prepared.seen.view(torch.uint8))
    whole = splits == 1
    apart = tree == 2 and not whole and all_heads // heads <= block_m
    # [B, n, H, D] in memory, which is how the model's next projection wants it
    out = torch.empty(batch, queries, all_heads, size, dtype=query.dtype, device=query.device).transpose(1, 2)
    places = 0 if whole else batch * heads * splits * rows
    out_or_parts = out if whole else torch.empty(places, size, dtype=torch.float32, device=query.device)
    maxima = torch.empty(places, dtype=torch.float32, device=query.device)
    sums = torch.empty_like(maxima)
    early = early_launch()
    padded = max(16, 1 << (size - 1).bit_length())  # what a matrix product of Triton needs at least
    query = query if query.stride(3) == 1 else query.contiguous()
    triton_split_kv.partial[(batch * heads, splits, tiles + queries * apart)](
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
        BATCH_INVARIANT=batch_invariant,
        QUERIES=1 << (queries - 1).bit_length(),
        WINDOW=prepared.window,
        CAUSAL=prepared.causal,
        TREE=tree,
        APART=apart,
        SIZE=size,
        PADDED=padded,
        BLOCK_M=block_m,
        BLOCK_N=block_n,
        num_warps=warps,
        **early,
    )
    if whole:
        return out
    cells = cell_count(splits, block_n if batch_invariant else 0)
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
        IN_TURN=splits > cells,
        TREE=tree,
        num_warps=max(1, min(4, cells * padded // NUMBERS_A_WARP)),
        **early,
    )
    return out


def is_batch_invariant(queries: int, slots: int, size: int | None = None, heads: int = 1) -> bool:
    """Tell whether a query gets the bits that it gets alone: nothing of the layout may depend on the others then.

    size: of a head, where drafts are scored. heads: of keys, of all rows; with enough of them long texts are split as
    is fast.
    """
    if size is not None and size <= SMALL_HEAD and queries <= MANY_QUERIES:
        return slots <= FEW_SLOTS or (slots <= MANY_SLOTS and heads < ENOUGH)
    return queries <= FEW_QUERIES and slots <= FEW_SLOTS


def split_count(heads: int, tiles: int, slots: int, part_slots: int) -> int:
    """Return into how many parts a row's slots are split; heads: of keys, of all rows, each with tiles of queries.

    part_slots: the slots of a part, so that whatever is in use, a slot is in the same part; 0: as many as are fast.
    """
    programs = heads if part_slots else heads * tiles
    if programs >= ENOUGH and slots <= FEW_SLOTS:
        return 1
    if part_slots:
        return -(-slots // part_slots)
    return max(1, min(MOST_SPLITS, PROGRAMS // programs, slots // SMALLEST_SPLIT))


def cell_count(splits: int, part_slots: int) -> int:
    """Return for how many splits at a time, those that are not there included, the parts are added up.

    part_slots: as for `split_count`; then it is one number, and one order of adding, however much of a text there is.
    """
    return max(16, FEW_SLOTS // part_slots if part_slots else 1 << (splits - 1).bit_length())


def tile_sizes(rows: int, size: int, slots: int, width: int, batch_invariant: bool) -> tuple[int, int, int]:
    """Return how many query rows and slots a program takes at a time, and its warps; width: bytes of a number.

    batch_invariant: whatever the rows are, the tiles are those of a few.

    Measured on an H100: rows in one tile read the keys once, which pays from about 8,192 slots on. Products of float32
    numbers have no tensor cores, and large ones no room in registers: they take twenty times as long.
    """
    if width > 2:
        return (16 if rows <= 16 or size > 64 else 32), (64 if size <= 64 else 32), 4
    if rows > 96 and size <= 128 and slots >= 8192:
        return 128, 64, 8
    return (16 if rows <= 16 or batch_invariant else 32 if rows <= 32 else 64), (64 if size <= 128 else 32), 4


def make(options: object, parts: Parts) -> SplitAttention:
    """Return the backend; raise BuildError where Triton is missing."""
    try:
        import triton  # noqa: F401
    except ImportError:
        raise BuildError("attention 'split' needs the package triton and a GPU; set attention.name=sdpa") from None
    return SplitAttention()
