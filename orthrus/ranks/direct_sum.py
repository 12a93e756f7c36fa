"""Direct sums over the GPUs of one host: each reads the others' parts from their memory, in one kernel.

torch's symmetric memory: https://docs.pytorch.org/docs/stable/symmetric_memory.html. A sum of a few tokens' states
takes NCCL longer for its steps than for the bytes; here there is one step. Parts are added in the order of the ranks.
"""

from __future__ import annotations

import os

import torch
from torch import Tensor, distributed

MOST_BYTES = 2**20  # of a part; above, NCCL's rings move less
ALIGNMENT = 16  # bytes


class DirectSum:
    """Sums tensors that are small enough; one buffer of each rank serves all."""

    def __init__(self, device: torch.device) -> None:
        """Meet the other ranks, all of which must do so; raise RuntimeError where GPUs cannot read each other."""
        # Multicast can put the GPUs of a host out of service for all; these sums do not need it.
        os.environ.setdefault("TORCH_SYMM_MEM_DISABLE_MULTICAST", "1")
        from torch.distributed import _symmetric_memory as symmetric_memory  # it has no public name before torch 2.14

        group = distributed.group.WORLD
        assert group is not None, "the ranks have met"
        self._group_name = group.group_name
        self._buffer = symmetric_memory.empty(MOST_BYTES, dtype=torch.uint8, device=device)
        symmetric_memory.rendezvous(self._buffer, group)

    def fits(self, tensor: Tensor) -> bool:
        """Tell whether a tensor is summed here."""
        return tensor.nbytes <= MOST_BYTES and tensor.nbytes % ALIGNMENT == 0 and tensor.is_contiguous()

    def sum(self, tensor: Tensor) -> Tensor:
        """Return the sum over all ranks, a new tensor."""
        part = self._buffer[: tensor.nbytes].view(tensor.dtype)
        total: Tensor = torch.ops.symm_mem.one_shot_all_reduce_copy(part, tensor.flatten(), "sum", self._group_name)
        return total.view_as(tensor)
