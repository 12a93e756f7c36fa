"""The attention backend `flex`: torch's FlexAttention, whose mask is a function of positions and not a tensor."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, flex_attention

from orthrus import AttentionCapabilities, MaskDescription, Parts
from orthrus_attention.masks import ALL_KINDS, visible
from orthrus_attention.unseen import looks, mended, zeroed
from orthrus_attention.unsupported import refuse

MOST_COMPILED = 128  # forms in a process: it is compiled anew for other rows, heads and dtypes; torch would stop at 8
HEAD_SIZES = frozenset({*range(16, 129, 8), 256})  # Triton multiplies nothing narrower than 16
BLOCK = 128  # queries and slots that are skipped or computed together
WARPS = 2  # that torch gives the kernel that splits long keys
MOST_WARPS = 16  # of one program
NUMBERS_A_WARP = 1024  # of the queries, in float32: on an H100 64 queries of 128 compiled in 19 s where it was 55


@dataclass(frozen=True, eq=False)
class Bounds:
    """The first slot that each query sees and the one after the last: [B, n] int32."""

    first: Tensor
    end: Tensor

    @classmethod
    def of(cls, mask: MaskDescription, window: int | None) -> Bounds:
        """Return the bounds of a mask; a block follows on what is committed, so what a query sees is one stretch.

        In a tree, or blocks beside a draft, they are those of the stretch in which it sees anything.
        """
        positions = mask.positions.to(torch.int32)
        if mask.paths is not None:
            last = (mask.lengths.to(torch.int32)[:, None] + mask.paths.shape[2] - 1).expand_as(positions)
        else:
            last = positions if mask.kind == "causal" else positions.amax(1, keepdim=True).expand_as(positions)
        first = torch.zeros_like(positions) if window is None else (positions - window + 1).clamp(min=0)
        return cls(first, last + 1)


@dataclass(frozen=True, eq=False)
class Prepared:
    """The mask that the kernel takes, and what it was made of."""

    mask: BlockMask
    bounds: Bounds
    table: Tensor | None = None  # [B, n, extent] of a tree, or of blocks beside a draft: what is seen

    def seen(self, slots: int) -> Tensor:
        """Return [B, n, slots]: true where the query may see the key in that slot."""
        if self.table is not None:
            return torch.nn.functional.pad(self.table, (0, slots - self.table.shape[2]))
        each = torch.arange(slots, device=self.bounds.first.device)
        return (each >= self.bounds.first[..., None]) & (each < self.bounds.end[..., None])


class FlexAttention:
    """Skip blocks of slots that no query of a block sees; the rest is masked inside the kernel.

    Compiled once for all layers, and anew for other numbers of rows and heads; lengths may change from call to call.
    """

    capabilities = AttentionCapabilities(
        devices=frozenset({"cpu", "cuda"}),
        dtypes=frozenset({"float32", "bfloat16", "float16"}),
        kinds=ALL_KINDS,
        head_sizes=HEAD_SIZES,
        softcap=True,
    )

    def __init__(self) -> None:
        self._compiled: dict[str, Callable[..., Any]] = {}  # by kind of device

    def prepare(self, mask: MaskDescription, window: int | None, dtype: torch.dtype) -> Prepared:
        """Return the mask as a function of tensors, and the blocks of slots that are in use."""
        bounds = Bounds.of(mask, window)
        table = None if mask.paths is None else visible(mask, window)
        first, end = blocks_in_use(bounds)
        most = -(-mask.extent // BLOCK)
        indices = first[..., None] + torch.arange(most, dtype=torch.int32, device=first.device)
        block_mask = BlockMask.from_kv_blocks(
            (end - first)[:, None],  # [B, 1, blocks of queries]
            indices.clamp(max=most - 1)[:, None],  # [B, 1, blocks of queries, blocks of slots]
            BLOCK_SIZE=BLOCK,
            mask_mod=seen_by(bounds) if table is None else looked_up(table),
            seq_lengths=(mask.positions.shape[1], mask.extent),
            compute_q_blocks=False,  # they are for the backward pass
        )
        return Prepared(block_mask, bounds, table)

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
        """Return [B, H, n, D]; raise BuildError for a model with sinks."""
        refuse("flex", None, sinks)
        compiled, mask = self._for(query.device.type), prepared.mask
        capped = None if softcap is None else capped_at(softcap)
        if not looks(value):  # scores that are hidden are left out by the kernel, and values are not
            value = zeroed(value)
        for states in (query, key, value):
            torch._dynamo.mark_static(states, 0)  # rows: the kernel that splits long keys must know how many there are
        with torch._dynamo.config.patch(recompile_limit=MOST_COMPILED, specialize_float=True):  # floats: one a model
            grouped, options = query.shape[1] != key.shape[1], kernel_options(query, key)
            out: Tensor = compiled(query, key, value, capped, mask, scale, grouped, kernel_options=options)
        return mended(out, query, key, value, prepared.seen(key.shape[2]), scale, softcap) if looks(out) else out

    def _for(self, device: str) -> Callable[..., Any]:
        # A CPU gets the plain operators: compiling for it takes a C++ compiler, and longer than it saves.
        if device not in self._compiled:
            backend = "inductor" if device == "cuda" else "eager"
            self._compiled[device] = torch.compile(flex_attention, backend=backend, dynamic=True, fullgraph=True)
        return self._compiled[device]


def kernel_options(query: Tensor, key: Tensor) -> dict[str, Any] | None:
    """Return what torch is told of the kernel on a GPU, or None for its own choice.

    The kernel that splits long keys takes all queries of a key head at once, and torch gives it two warps. There are
    none of its forms for more queries than a block has, and torch does not look for another kernel then. In float32
    no tensor core multiplies: each warp's share is written out, and two warps' share took minutes to compile.
    torch 2.11 to 2.13 read FORCE_USE_FLEX_ATTENTION, and BACKEND="TRITON", its later name; this one has run on GPUs.
    """
    if not query.is_cuda:
        return None
    groups, queries = query.shape[1] // key.shape[1], query.shape[2]
    if groups * queries > BLOCK:
        return {"FORCE_USE_FLEX_ATTENTION": True}
    splits_keys = 0 < queries < BLOCK and groups == power_of_two(groups)  # or torch takes the other kernel
    if query.dtype != torch.float32 or not splits_keys:
        return None
    multiplied = max(16, power_of_two(groups * queries)) * power_of_two(query.shape[3])  # a tile of queries
    warps = min(MOST_WARPS, multiplied // NUMBERS_A_WARP)
    return {"num_warps": warps} if warps > WARPS else None


def power_of_two(least: int) -> int:
    """Return the first power of two that is no less."""
    return 1 << (least - 1).bit_length()


def blocks_in_use(bounds: Bounds) -> tuple[Tensor, Tensor]:
    """Return the first block of slots that each block of queries reads and the one after its last, [B, blocks]."""
    starts = range(0, bounds.first.shape[1], BLOCK)
    first = [bounds.first[:, start : start + BLOCK].amin(1) for start in starts]
    end = [bounds.end[:, start : start + BLOCK].amax(1) for start in starts]
    return torch.stack(first, 1) // BLOCK, (torch.stack(end, 1) + BLOCK - 1) // BLOCK


def seen_by(bounds: Bounds) -> Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]:
    """Return FlexAttention's mask function; the bounds are read when the kernel runs."""
    first, end = bounds.first, bounds.end

    def seen(row: Tensor, head: Tensor, query: Tensor, slot: Tensor) -> Tensor:
        return (slot >= first[row, query]) & (slot < end[row, query])

    return seen


def looked_up(table: Tensor) -> Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]:
    """Return FlexAttention's mask function that looks into a table [B, n, extent]."""

    def seen(row: Tensor, head: Tensor, query: Tensor, slot: Tensor) -> Tensor:
        return table[row, query, slot]

    return seen


def capped_at(softcap: float) -> Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]:
    """Return FlexAttention's score function for soft-capped scores."""

    def capped(score: Tensor, row: Tensor, head: Tensor, query: Tensor, slot: Tensor) -> Tensor:
        return softcap * torch.tanh(score / softcap)

    return capped


def make(options: object, parts: Parts) -> FlexAttention:
    """Return the backend."""
    return FlexAttention()
