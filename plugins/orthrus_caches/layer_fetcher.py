"""Fetches layers of a cache from the host to a GPU ahead of the passes, and writes back what they add.

It has a stream of its own. While the device is at one layer, the next one is copied into the other of two buffers.
R: rows of a pass, H: heads, D: size of a head.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

Pair = tuple[Tensor, Tensor]
Runs = Sequence[
    tuple[int, int, int, int]
]  # of slots that a pass writes: row of the pass, row, first slot, one past the last
STAGES = 2


@dataclass
class _Stage:
    """A buffer on the device: flat bytes of a layer's keys and of its values, and what is in it.

    arrived: when the copy of a layer is through. free: when nobody reads or writes it any more.
    """

    flat: list[Tensor]
    layer: int | None = None
    arrived: torch.cuda.Event | None = None
    free: torch.cuda.Event | None = None


class LayerFetcher:
    """Copy layers to a device one ahead of where it is, and copy back the slots that were written."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]  # torch has no type for it
        self._stages = [_Stage([]) for _ in range(STAGES)]
        self._next = 0  # the stage that is filled next

    def forget(self) -> None:
        """Take nothing on the device for a layer any more: another pass is over other rows or slots."""
        for stage in self._stages:
            stage.layer = None

    def wait(self) -> None:
        """Wait until the host's memory has all that passes wrote, so that the host may read or move it."""
        self._stream.synchronize()

    @property
    def bytes_on_device(self) -> int:
        """The bytes of the buffers on the device."""
        return sum(flat.nbytes for stage in self._stages for flat in stage.flat)

    def fetch(self, layer: int, pair: Pair, rows: Sequence[int], extent: int) -> None:
        """Launch the copy of some rows' first slots of a layer, unless it is there; `staged` waits for it."""
        if any(stage.layer == layer for stage in self._stages):
            return
        stage = self._stages[self._next]
        self._next = (self._next + 1) % STAGES
        views = self._views(stage, pair, len(rows), extent)
        stage.layer, stage.free = layer, torch.cuda.current_stream(self._device).record_event()
        self._stream.wait_event(stage.free)  # what was launched so far may still read what the buffer holds
        with torch.cuda.stream(self._stream):
            for source, target in zip(pair, views, strict=True):
                for index, row in enumerate(rows):
                    target[index].copy_(source[row, :extent], non_blocking=True)
        stage.arrived = self._stream.record_event()

    def staged(self, layer: int, pair: Pair, rows: Sequence[int], extent: int) -> Pair:
        """Return a layer's keys and values [R, extent, H, D] on the device, which waits for them, not the host."""
        self.fetch(layer, pair, rows, extent)
        stage = next(stage for stage in self._stages if stage.layer == layer)
        assert stage.arrived is not None, "it was fetched"
        torch.cuda.current_stream(self._device).wait_event(stage.arrived)
        return self._views(stage, pair, len(rows), extent)

    def write_back(self, staged: Pair, pair: Pair, runs: Runs) -> None:
        """Copy slots that a pass has written on the device into the host's buffers, behind what was launched so far."""
        self._stream.wait_event(torch.cuda.current_stream(self._device).record_event())
        with torch.cuda.stream(self._stream):
            for source, target in zip(staged, pair, strict=True):
                for index, row, first, end in runs:
                    target[row, first:end].copy_(source[index, first:end], non_blocking=True)

    def _views(self, stage: _Stage, pair: Pair, rows: int, extent: int) -> Pair:
        """Return the stage's memory as keys and values [R, extent, H, D], larger memory if it is too small."""
        needed = [rows * extent * _slot_bytes(part) for part in pair]
        if not stage.flat or any(flat.nbytes < size for flat, size in zip(stage.flat, needed, strict=True)):
            self.wait()
            sizes = [-(-(size + size // 8) // 16) * 16 for size in needed]  # a text grows from pass to pass
            stage.flat = [torch.zeros(size, dtype=torch.uint8, device=self._device) for size in sizes]
            stage.layer = None
        key, value = (
            flat[:size].view(part.dtype).view(rows, extent, *part.shape[2:])
            for flat, part, size in zip(stage.flat, pair, needed, strict=True)
        )
        return key, value


def _slot_bytes(part: Tensor) -> int:
    """Return the bytes of one slot of a buffer [B, C, H, D]."""
    return part.shape[2] * part.shape[3] * part.element_size()
