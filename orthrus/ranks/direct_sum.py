"""Direct sums over the GPUs of one host, which reach each other's memory.

torch's symmetric memory: https://docs.pytorch.org/docs/stable/symmetric_memory.html. A sum of a few tokens' states
takes NCCL longer for its steps than for the bytes; here there is one step. Parts are added in the order of the ranks.
"""

from __future__ import annotations

import os
from enum import Enum

import torch
from torch import Tensor, distributed

MOST_BYTES = 2**20  # of a part; above, NCCL's rings move less
MOST_ROWS = 256  # tokens whose sums are joined with what follows them
ALIGNMENT = 16  # bytes
SLOTS = 2  # of parts that a layer's kernels write and read: one is written while the other may still be read
LETTER = 2**18  # numbers of float32 that one rank writes into another's inbox for a sum
EMPTY = -(2**31)  # the bits of a number that has not come


class Joined(Enum):
    """What a sum is one kernel with."""

    NOTHING = "nothing"
    NORM = "the norm behind it"
    PRODUCT_AND_NORM = "the product before it, too"


class DirectSum:
    """Sums tensors that are small enough; one buffer of each rank serves all.

    rank, ranks: which this is, and how many there are. buffers, marks: tables of the addresses of each rank's slots of
    slot_bytes each, and of the marks by which kernels tell each other that a part is there. inboxes: of each rank's
    inboxes, into which the others write `letter` numbers each, one for each slot. with_products: whether sums are one
    kernel with the products before them.
    """

    slot_bytes = MOST_BYTES
    letter = LETTER

    def __init__(self, device: torch.device, with_products: bool = False) -> None:
        """Meet the other ranks, all of which must do so; raise RuntimeError where GPUs cannot read each other."""
        self.with_products = with_products
        # Multicast can put the GPUs of a host out of service for all; these sums do not need it.
        os.environ.setdefault("TORCH_SYMM_MEM_DISABLE_MULTICAST", "1")
        from torch.distributed import _symmetric_memory as symmetric_memory  # it has no public name in torch

        group = distributed.group.WORLD
        assert group is not None, "the ranks have met"
        self._group_name = group.group_name
        self.rank, self.ranks = distributed.get_rank(), distributed.get_world_size()
        marks = (SLOTS + 1) * MOST_BYTES
        inboxes = marks + 4 * MOST_ROWS * self.ranks
        size = inboxes + 4 * SLOTS * self.ranks * LETTER
        self._buffer = symmetric_memory.empty(size, dtype=torch.uint8, device=device)
        self._buffer.zero_()
        self._buffer[inboxes:].view(torch.int32).fill_(EMPTY)
        torch.cuda.synchronize(device)
        held = symmetric_memory.rendezvous(self._buffer, group)
        first = [int(address) + int(getattr(held, "offset", 0)) for address in held.buffer_ptrs]
        self.buffers = torch.tensor(first, dtype=torch.int64, device=device)
        self.marks, self.inboxes = self.buffers + marks, self.buffers + inboxes

    def fits(self, tensor: Tensor) -> bool:
        """Tell whether a tensor is summed here."""
        return tensor.nbytes <= MOST_BYTES and tensor.nbytes % ALIGNMENT == 0 and tensor.is_contiguous()

    def sum(self, tensor: Tensor) -> Tensor:
        """Return the sum over all ranks, a new tensor."""
        begin = SLOTS * MOST_BYTES
        part = self._buffer[begin : begin + tensor.nbytes].view(tensor.dtype)
        total: Tensor = torch.ops.symm_mem.one_shot_all_reduce_copy(part, tensor.flatten(), "sum", self._group_name)
        return total.view_as(tensor)

    def part(self, like: Tensor, slot: int) -> Tensor:
        """Return where this rank's part [B, n, E] goes, which a kernel then adds to the others'."""
        begin = slot * MOST_BYTES
        return self._buffer[begin : begin + like.nbytes].view(like.dtype).view(like.shape)
