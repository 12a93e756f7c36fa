"""A copy on the host of what a step found on the device, in pinned memory that is kept from step to step."""

from __future__ import annotations

import torch
from torch import Tensor

FEWEST = 256  # numbers that there is room for at least


class HostCopy:
    """Copy numbers to the host while the device goes on; one copy at a time."""

    def __init__(self) -> None:
        self._room = torch.zeros(0, dtype=torch.int64)
        self._copied: torch.cuda.Event | None = None
        self._numbers = self._room

    def begin(self, numbers: Tensor) -> None:
        """Launch the copy; numbers on a CPU are taken as they are."""
        if not numbers.is_cuda:
            self._copied, self._numbers = None, numbers
            return
        count = numbers.numel()
        if len(self._room) < count or self._room.dtype != numbers.dtype:
            self._room = torch.empty(max(FEWEST, count), dtype=numbers.dtype, pin_memory=True)
        self._numbers = self._room[:count].view(numbers.shape)
        self._numbers.copy_(numbers, non_blocking=True)  # to pinned memory, so that it holds up nothing
        self._copied = self._copied or torch.cuda.Event()  # type: ignore[no-untyped-call]  # torch has no type for it
        self._copied.record(torch.cuda.current_stream(numbers.device))

    def take(self) -> Tensor:
        """Wait until the copy is there, and return it: it holds until the next one is begun."""
        if self._copied is not None:
            self._copied.synchronize()
        return self._numbers
