"""The cache `dynamic`: grows as the text does. B: rows, H: heads of keys, C: slots held, D: size of a head."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from orthrus import Parts
from orthrus_caches.buffers import SlotMoves, grown, moved_lengths, put, rows_of

GROWTH = 256  # slots; growing copies, so it happens seldom


class DynamicCache:
    """Keep the key of the token at position p in slot p of its row, so that rollback moves a length and nothing else.

    Buffers start as zeros: slots that no one wrote are masked, but a masked NaN would still spoil a sum.
    """

    moves_rows = True

    def __init__(self) -> None:
        self.lengths = torch.zeros(0, dtype=torch.int64)  # [B]
        self._moves = SlotMoves()
        self._keys: list[Tensor] = []  # per layer [B, H, C, D]
        self._values: list[Tensor] = []
        self._slots = torch.zeros(0, 0, dtype=torch.int64)  # [R, n]
        self._rows: Tensor | None = None  # [R]; None: those that are one after the other
        self._first = 0  # the first of these
        self._extent = 0

    def start(self, rows: int, device: torch.device) -> None:
        """Forget everything and hold `rows` rows of length 0."""
        self.lengths = torch.zeros(rows, dtype=torch.int64, device=device)
        self._keys, self._values, self._extent = [], [], 0

    def move_rows(self, sources: Sequence[int]) -> None:
        """Hold as many rows as there are sources; each has what the row of that number had, -1 nothing."""
        before, self.lengths = len(self.lengths), moved_lengths(self.lengths, sources)
        if len(sources) == before and all(source in (row, -1) for row, source in enumerate(sources)):
            return
        chosen = torch.tensor([max(source, 0) for source in sources]).to(self.lengths.device, non_blocking=True)
        for buffers in (self._keys, self._values):
            buffers[:] = [buffer[chosen] for buffer in buffers]

    def place(self, slots: Tensor, extent: int, rows: Tensor | None = None) -> int:
        """Set where the next pass writes: slots [R, n] of rows [R]; extent, returned, is the highest slot plus 1."""
        self._slots, self._extent, self._rows, self._first = slots, extent, rows, 0
        return extent

    def place_adjacent(self, slots: Tensor, extent: int, first: int) -> int:
        """Place slots [R, n] of the R rows from `first` on, of which `update` returns views."""
        extent = self.place(slots, extent)
        self._first = first
        return extent

    def update(self, keys: Tensor, values: Tensor, layer: int) -> tuple[Tensor, Tensor]:
        """Write [R, H, n, D] into the placed slots; return [R, H, extent, D] of the layer: views of adjacent rows."""
        return (
            self._write(self._keys, keys, layer),
            self._write(self._values, values, layer),
        )

    def lend(self, layers: int, like: Tensor, heads: int, size: int) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
        """Return the keys and values [B, heads, C, size] of all layers, with room for the placed slots."""
        for buffers in (self._keys, self._values):
            while len(buffers) < layers:
                buffers.append(like.new_zeros(len(self.lengths), heads, 0, size))
            for layer in range(layers):
                self._make_room(buffers, layer)
        return self._keys, self._values

    def move_slots(self, first: Tensor, order: Tensor) -> None:
        """Let slot first [B] + i of each row have what its slot first + order [B, n] at i has, never an earlier one."""
        self._moves.move([*self._keys, *self._values], first, order)

    def keep(self, lengths: Tensor) -> None:
        """Commit exactly the first lengths [B] slots of each row."""
        self.lengths = lengths

    @property
    def buffers(self) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
        """The keys and the values as they lie, [B, H, C, D] of each layer: for those who look at what is held."""
        return self._keys, self._values

    def bytes_in_use(self) -> int:
        """Return the bytes of all buffers."""
        return sum(buffer.nbytes for buffer in [*self._keys, *self._values])

    def _write(self, buffers: list[Tensor], states: Tensor, layer: int) -> Tensor:
        while len(buffers) <= layer:
            buffers.append(states.new_zeros(len(self.lengths), states.shape[1], 0, states.shape[3]))
        self._make_room(buffers, layer)
        placed = buffers[layer] if self._rows is not None else rows_of(buffers[layer], self._first, len(self._slots))
        return put(placed, states, self._slots, self._rows, self._extent)

    def _make_room(self, buffers: list[Tensor], layer: int) -> None:
        if buffers[layer].shape[2] < self._extent:
            buffers[layer] = grown(buffers[layer], -(-self._extent // GROWTH) * GROWTH)


def make(options: object, parts: Parts) -> DynamicCache:
    """Return the cache."""
    return DynamicCache()
