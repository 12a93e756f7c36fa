"""Buffers of blocks, [N, H, S, D] for keys and for values of each layer: N blocks, H heads, S slots, D size of a head.

R: rows of a pass, n: its columns, M: blocks of a row that it sees.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from orthrus.kernels.available import row_kernels
from orthrus_caches.block_pool import NOTHING, UNREAD
from orthrus_caches.buffers import checked_zeros, moving_width

if TYPE_CHECKING:
    from orthrus_caches.triton_blocks import BlockMover

LEAST_GROWTH = 16  # blocks
SHARE = 8  # growing copies, so it is by an eighth at least


class PlacedBlocks:
    """The blocks of one pass: those that it reads [R, M], and the block and the slot in it of each column [R, n].

    slots: of a block.
    """

    def __init__(self, read: Tensor, written: Tensor, within: Tensor, slots: int) -> None:
        self._slots = slots
        self.read, self._written, self._within = read, written, within
        self._by_heads: dict[tuple[int, int], tuple[Tensor, Tensor]] = {}  # layers of a shape share them

    def index(self, heads: int, slots: int) -> tuple[Tensor, Tensor]:
        """Return what is read of a buffer's [N H, S D], as [R H M], and what is written of its [N H S, D], [R H n]."""
        if (heads, slots) not in self._by_heads:
            head = torch.arange(heads, device=self.read.device)[:, None]  # [H, 1]
            read = self.read[:, None] * heads + head  # [R, H, M]
            written = (self._written[:, None] * heads + head) * slots + self._within[:, None]  # [R, H, n]
            self._by_heads[heads, slots] = read.flatten(), written.flatten()
        return self._by_heads[heads, slots]

    def at(self, slots: Tensor) -> tuple[Tensor, Tensor]:
        """Return the blocks in which slots [R, n] of the rows are, S of them in each, and where in these: [R, n]."""
        places = (slots // self._slots).clamp(max=self.read.shape[1] - 1)
        return self.read.gather(1, places), slots % self._slots


def _flat(slots: tuple[Tensor, Tensor], shape: torch.Size) -> Tensor:
    """Return where in a buffer of this shape [N, H, S, D], seen as [N H S, D], slots of blocks are: [R, H, n]."""
    blocks, within = slots
    head = torch.arange(shape[1], device=blocks.device)[:, None]  # [H, 1]
    return (blocks[:, None] * shape[1] + head) * shape[2] + within[:, None]


class BlockStore:
    """Hold the keys and values of numbered blocks; layers may differ in heads and sizes.

    What is kept beside the keys of a slot, whatever it is, is W numbers: [N, 1, S, W].
    """

    def __init__(self, slots: int) -> None:
        self._slots = slots
        self._blocks = 0  # that each buffer has
        self._keys: dict[int, Tensor] = {}  # by layer
        self._values: dict[int, Tensor] = {}
        self._beside: dict[int, Tensor] = {}  # one buffer, or none
        self._movers: dict[tuple[int, int, torch.dtype], BlockMover] = {}  # by shape of a buffer

    @property
    def blocks(self) -> int:
        """How many blocks there is memory for."""
        return self._blocks

    def clear(self) -> None:
        """Give all memory back."""
        self._blocks, self._keys, self._values, self._beside = 0, {}, {}, {}

    def hold(self, blocks: int, most: int | None) -> None:
        """Make room for so many blocks; most: that there may ever be, None: any number."""
        if blocks <= self._blocks:
            return
        larger = max(blocks, self._blocks + max(LEAST_GROWTH, self._blocks // SHARE))
        larger = larger if most is None else min(larger, most)
        for buffers in (self._keys, self._values, self._beside):
            for layer, buffer in buffers.items():
                if len(buffer) < larger:
                    grown = self._zeros(buffer, larger, buffer.shape[1], buffer.shape[3])
                    grown[: len(buffer)] = buffer
                    buffers[layer] = grown  # one after the other, so that little is held twice
        self._blocks = larger

    def copy(self, pairs: Sequence[tuple[int, int]]) -> None:
        """Let the second block of each pair have what the first one has, in all layers."""
        for buffer in self.buffers() if pairs else ():
            origins, targets = torch.tensor(pairs).to(buffer.device, non_blocking=True).unbind(1)
            buffer[targets] = buffer[origins]

    def move(self, placed: PlacedBlocks, first: Tensor, order: Tensor) -> None:
        """Let slot first [R] + i of each row have what its slot first + order [R, n] at i has, in every buffer.

        What is not to move is not written, so that a block in which nothing moves may be another row's, too.
        """
        if row_kernels(first.device) is not None:
            self._move_by_kernel(placed, first, order)
            return
        if not (width := moving_width(order)):
            return
        order = order[:, :width]
        indices = torch.arange(width, device=order.device)
        sources, targets = placed.at(first[:, None] + order), placed.at(first[:, None] + indices)
        stays = (order == indices) | (targets[0] == NOTHING)
        targets = targets[0].masked_fill(stays, UNREAD), targets[1]
        for buffer in self.buffers():
            size = buffer.shape[3]
            flat = buffer.view(-1, size)
            flat[_flat(targets, buffer.shape)] = flat[_flat(sources, buffer.shape)]

    def _move_by_kernel(self, placed: PlacedBlocks, first: Tensor, order: Tensor) -> None:
        from orthrus_caches.triton_blocks import BlockMover

        alike: dict[tuple[int, int, torch.dtype], list[Tensor]] = {}
        for buffer in self.buffers():  # layers may differ
            alike.setdefault((buffer.shape[1], buffer.shape[3], buffer.dtype), []).append(buffer)
        if self._movers.keys() != alike.keys():
            self._movers = {kind: BlockMover() for kind in alike}
        for kind, group in alike.items():
            self._movers[kind].move(group, placed.read, first, order)

    def update(self, placed: PlacedBlocks, keys: Tensor, values: Tensor, layer: int) -> tuple[Tensor, Tensor]:
        """Write [R, H, n, D] of a layer into its blocks; return copies [R, H, M S, D] of all that its rows see."""
        return self._update(self._keys, placed, keys, layer), self._update(self._values, placed, values, layer)

    def _update(self, buffers: dict[int, Tensor], placed: PlacedBlocks, states: Tensor, layer: int) -> Tensor:
        rows, heads, _, size = states.shape
        if layer not in buffers:
            buffers[layer] = self._zeros(states, self._blocks, heads, size)
        buffer = buffers[layer]
        read, written = placed.index(heads, self._slots)
        buffer.view(-1, size).index_copy_(0, written, states.reshape(-1, size))
        return buffer.view(-1, self._slots * size).index_select(0, read).view(rows, heads, -1, size)

    def write_beside(self, placed: PlacedBlocks, states: Tensor) -> None:
        """Write states [R, n, W] beside the keys of a pass."""
        width = states.shape[-1]
        if 0 not in self._beside:
            self._beside[0] = self._zeros(states, self._blocks, 1, width)
        _, written = placed.index(1, self._slots)
        self._beside[0].view(-1, width).index_copy_(0, written, states.reshape(-1, width))

    def read_beside(self, blocks: Tensor) -> Tensor:
        """Return what is beside the keys of blocks [M], one after the other: [M S, W]."""
        buffer = self._beside[0]
        return buffer.index_select(0, blocks).view(-1, buffer.shape[-1])

    def clear_beside(self) -> None:
        """Give the memory back of what is beside keys."""
        self._beside = {}

    def _zeros(self, like: Tensor, blocks: int, heads: int, size: int) -> Tensor:
        text = f"{blocks} blocks of {self._slots} slots"
        return checked_zeros(like, (blocks, heads, self._slots, size), text, "cache.blocks")

    def buffers(self) -> Iterator[Tensor]:
        """Yield the keys of all layers, then the values, then what is beside them: [N, H, S, D] each."""
        yield from self._keys.values()
        yield from self._values.values()
        yield from self._beside.values()
