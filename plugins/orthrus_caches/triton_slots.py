"""A Triton kernel that moves tokens within the rows of many buffers, one launch for all layers' keys and values.

A program has one head of one row of one buffer. Tokens only move to earlier slots, so that going up the slots never
reads what has been written.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from orthrus.kernels.launch import current


@triton.jit(do_not_specialize=["width"])
def _move(buffers, like, first, order, width, stride_row, stride_head, SIZE: tl.constexpr, PADDED: tl.constexpr):
    buffer = tl.load(buffers + tl.program_id(0)).to(tl.pointer_type(like.dtype.element_ty))
    row, head = tl.program_id(1).to(tl.int64), tl.program_id(2).to(tl.int64)
    d = tl.arange(0, PADDED)
    slots = buffer + row * stride_row + head * stride_head + tl.load(first + row) * SIZE
    for index in range(width):
        source = tl.load(order + row * width + index)
        if source != index:
            states = tl.load(slots + source * SIZE + d, mask=d < SIZE)
            tl.store(slots + index * SIZE + d, states, mask=d < SIZE)


class SlotMover:
    """Moves slots of buffers, whose addresses it uploads when they are others than before."""

    def __init__(self) -> None:
        self._known: tuple[int, ...] = ()
        self._addresses = torch.zeros(0, dtype=torch.int64)

    def move(self, buffers: Sequence[Tensor], first: Tensor, order: Tensor) -> None:
        """Let slot first [B] + i of each row have what its slot first + order [B, n] at i has, never an earlier one.

        buffers: [B or more, H, C, D] each, all of one shape and dtype, contiguous.
        """
        addresses = tuple(buffer.data_ptr() for buffer in buffers)
        if addresses != self._known:
            self._known = addresses
            self._addresses = torch.tensor(addresses).to(first.device, non_blocking=True)
        like = buffers[0]
        size = like.shape[3]
        with current(first.device):
            _move[(len(buffers), len(first), like.shape[1])](
                self._addresses, like, first.contiguous(), order.contiguous(), order.shape[1],
                like.stride(0), like.stride(1), SIZE=size, PADDED=triton.next_power_of_2(size), num_warps=1,
            )  # fmt: skip
