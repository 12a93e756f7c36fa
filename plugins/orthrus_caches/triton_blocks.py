"""A Triton kernel that moves tokens within the blocks of rows, one launch for all layers' keys and values.

A program has one head of one row of one buffer. Tokens only move to earlier slots, so that going up the slots never
reads what has been written.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from orthrus_caches.block_pool import NOTHING


@triton.jit(do_not_specialize=["width", "places"])
def _move(
    buffers, like, table, first, order, width, places,
    SLOTS: tl.constexpr, SIZE: tl.constexpr, PADDED: tl.constexpr, NOTHING: tl.constexpr,
):  # fmt: skip
    buffer = tl.load(buffers + tl.program_id(0)).to(tl.pointer_type(like.dtype.element_ty))
    row, head, heads = tl.program_id(1).to(tl.int64), tl.program_id(2).to(tl.int64), tl.num_programs(2)
    start, blocks = tl.load(first + row), table + row * places
    d = tl.arange(0, PADDED)
    for index in range(width):
        source = tl.load(order + row * width + index)
        origin, target = start + source, start + index
        if (source != index) & (origin < places * SLOTS):
            block = tl.load(blocks + target // SLOTS)
            if block != NOTHING:
                taken = (tl.load(blocks + origin // SLOTS) * heads + head) * SLOTS + origin % SLOTS
                states = tl.load(buffer + taken * SIZE + d, mask=d < SIZE)
                given = (block * heads + head) * SLOTS + target % SLOTS
                tl.store(buffer + given * SIZE + d, states, mask=d < SIZE)


class BlockMover:
    """Moves slots of buffers of blocks, whose addresses it uploads when they are others than before."""

    def __init__(self) -> None:
        self._known: tuple[int, ...] = ()
        self._addresses = torch.zeros(0, dtype=torch.int64)

    def move(self, buffers: Sequence[Tensor], table: Tensor, first: Tensor, order: Tensor) -> None:
        """Let slot first [R] + i of each row have what its slot first + order [R, n] at i has, never an earlier one.

        buffers: [N, H, S, D] each, of one H, D and dtype, contiguous. table [R, M]: the blocks of each row.
        """
        addresses = tuple(buffer.data_ptr() for buffer in buffers)
        if addresses != self._known:
            self._known = addresses
            self._addresses = torch.tensor(addresses).to(first.device, non_blocking=True)
        _, heads, slots, size = buffers[0].shape
        with torch.cuda.device(first.device):
            _move[(len(buffers), len(first), heads)](
                self._addresses, buffers[0], table.contiguous(), first.contiguous(), order.contiguous(),
                order.shape[1], table.shape[1],
                SLOTS=slots, SIZE=size, PADDED=triton.next_power_of_2(size), NOTHING=NOTHING, num_warps=1,
            )  # fmt: skip
