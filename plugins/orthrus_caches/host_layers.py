"""Keys and values of layers in memory of the host, slot by slot: [B, C, H, D] each, B rows, C slots, H heads, D size.

A row's slots that follow one another lie together, so that they are copied to and from a GPU in one piece.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from orthrus import InputError

GROWTH = 256  # slots; growing copies, so it is by this many or a quarter at least


class HostLayers:
    """Hold a pair of buffers for each layer, which may differ in heads and sizes; pinned: page-locked for copies."""

    def __init__(self, pinned: bool) -> None:
        self._pinned = pinned
        self._pairs: dict[int, tuple[Tensor, Tensor]] = {}
        self._rows = 0
        self._capacity = 0

    def clear(self, rows: int) -> None:
        """Hold nothing, for so many rows."""
        self._pairs, self._rows, self._capacity = {}, rows, 0

    @property
    def capacity(self) -> int:
        """The slots that there is room for in each row."""
        return self._capacity

    def pair(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Return a layer's buffers of keys and values, new ones if it has none; like states [R, H, n, D]."""
        if layer not in self._pairs:
            key, value = (self._zeros(self._rows, states.shape[1], states) for states in (keys, values))
            self._pairs[layer] = key, value
        return self._pairs[layer]

    def known(self, layer: int) -> tuple[Tensor, Tensor] | None:
        """Return a layer's buffers, if it has some."""
        return self._pairs.get(layer)

    def hold(self, slots: int) -> None:
        """Make room for so many slots in each row."""
        if slots <= self._capacity:
            return
        wanted = max(slots, self._capacity + self._capacity // 4)
        self._capacity = -(-wanted // GROWTH) * GROWTH
        for layer, pair in self._pairs.items():
            key, value = (self._grown(buffer) for buffer in pair)
            self._pairs[layer] = key, value

    def move_rows(self, sources: list[int]) -> None:
        """Hold as many rows as there are sources; each has what the row of that number had, any row's for -1."""
        chosen = torch.tensor([max(source, 0) for source in sources])
        self._rows = len(sources)
        for layer, pair in self._pairs.items():
            key, value = (self._locked(buffer[chosen]) for buffer in pair)
            self._pairs[layer] = key, value

    def buffers(self) -> Iterator[Tensor]:
        """Yield all buffers."""
        for pair in self._pairs.values():
            yield from pair

    def _grown(self, buffer: Tensor) -> Tensor:
        rows, slots, heads, size = buffer.shape
        larger = self._empty((rows, self._capacity, heads, size), buffer.dtype)
        larger[:, :slots] = buffer
        larger[:, slots:] = 0
        return larger

    def _zeros(self, rows: int, heads: int, states: Tensor) -> Tensor:
        return self._empty((rows, self._capacity, heads, states.shape[3]), states.dtype).zero_()

    def _locked(self, buffer: Tensor) -> Tensor:
        return buffer.pin_memory() if self._pinned else buffer

    def _empty(self, shape: tuple[int, int, int, int], dtype: torch.dtype) -> Tensor:
        try:
            return torch.empty(shape, dtype=dtype, pin_memory=self._pinned)
        except RuntimeError as error:  # of the host, page-locked or not
            locked = "; or cache.pinned=false" if self._pinned else ""
            raise InputError(
                f"the host's memory does not hold a cache of {shape[0]} rows with {shape[1]} slots each; set a smaller"
                f" batch or stop.max_new_tokens{locked}"
            ) from error
