"""The cache `static`: buffers at fixed addresses. B: rows, H: heads of keys, C: slots held, D: size of a head."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from orthrus import Parts
from orthrus_caches.buffers import SlotMoves, grown, moved_lengths, put, rows_of, zeros
from orthrus_caches.options import StaticOptions


class StaticCache:
    """Keep the token at position p in slot p of its row, in buffers that stay where they are.

    A pass reads a bucket of slots: the smallest power-of-two multiple of `slots` that covers its rows. So shapes and
    addresses repeat from cycle to cycle, and a captured pass can be replayed while the text grows; `generation` counts
    how often the buffers had to move. Buffers hold as many rows as there ever were, and passes are over the first of
    them. Buffers start as zeros: a masked slot that held NaN would still spoil a sum.
    """

    moves_rows = True

    def __init__(self, slots: int = 512, max_slots: int | None = None) -> None:
        self.lengths = torch.zeros(0, dtype=torch.int64)  # [B]
        self.generation = 0
        self.max_slots = max_slots
        self._smallest = slots
        self._capacity = slots
        self._held_rows = 0
        self._moves = SlotMoves()
        self._keys: list[Tensor] = []  # per layer [B, H, C, D]
        self._values: list[Tensor] = []
        self._slots = torch.zeros(0, 0, dtype=torch.int64)  # [R, n]
        self._rows: Tensor | None = None  # [R]; None: those that are one after the other
        self._first = 0  # the first of these
        self._extent = 0

    def start(self, rows: int, device: torch.device) -> None:
        """Hold `rows` rows of length 0; buffers that are large enough are kept, and with them what was captured."""
        lengths = torch.zeros(rows, dtype=torch.int64, device=device)
        if self._held_rows < rows or self.lengths.device != lengths.device:
            self._drop()
            self._held_rows = rows
        self.lengths = lengths

    def move_rows(self, sources: Sequence[int]) -> None:
        """Hold as many rows as there are sources; each has what the row of that number had, -1 nothing."""
        self.lengths = moved_lengths(self.lengths, sources)
        if len(sources) > self._held_rows:
            self._hold(len(sources))
        moves = [(row, source) for row, source in enumerate(sources) if source not in (row, -1)]
        if not moves:
            return
        targets, origins = torch.tensor(moves).to(self.lengths.device, non_blocking=True).unbind(1)
        for buffer in (*self._keys, *self._values):
            buffer[targets] = buffer[origins]

    def place(self, slots: Tensor, extent: int, rows: Tensor | None = None) -> int:
        """Set where the next pass writes: slots [R, n] of rows [R]; return the bucket that covers the extent."""
        self._slots, self._rows, self._first = slots, rows, 0
        self._extent = self._bucket(extent)
        if self._extent > self._capacity:
            self._grow(self._extent)
        return self._extent

    def place_adjacent(self, slots: Tensor, extent: int, first: int) -> int:
        """Place slots [R, n] of the R rows from `first` on, of which `update` returns views."""
        bucket = self.place(slots, extent)
        self._first = first
        return bucket

    def update(self, keys: Tensor, values: Tensor, layer: int) -> tuple[Tensor, Tensor]:
        """Write [R, H, n, D] into the placed slots; return [R, H, bucket, D] of the layer: views of adjacent rows."""
        while len(self._keys) <= layer:
            self._keys.append(self._buffer(keys))
            self._values.append(self._buffer(values))
        return self._write(self._keys[layer], keys), self._write(self._values[layer], values)

    def reserve(self, layer: int, keys_like: Tensor, heads: int, size: int) -> tuple[Tensor, Tensor, Tensor] | None:
        """Return a layer's buffers [B, heads, C, size] and the placed slots [B, n], to be written by the caller.

        None if the pass is over rows that lie apart: then `update` writes.
        """
        if self._rows is not None:
            return None
        while len(self._keys) <= layer:
            shape = (self._held_rows, heads, self._capacity, size)
            self._keys.append(zeros(keys_like, shape))
            self._values.append(zeros(keys_like, shape))
        return self._placed(self._keys[layer]), self._placed(self._values[layer]), self._slots

    def lend(self, layers: int, like: Tensor, heads: int, size: int) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
        """Return the keys and values [B, heads, C, size] of all layers."""
        for buffers in (self._keys, self._values):
            while len(buffers) < layers:
                buffers.append(zeros(like, (self._held_rows, heads, self._capacity, size)))
        return self._keys, self._values

    def read(self, layer: int) -> tuple[Tensor, Tensor]:
        """Return views [B, H, bucket, D] of a layer's keys and values."""
        keys, values = self._placed(self._keys[layer]), self._placed(self._values[layer])
        return keys[:, :, : self._extent], values[:, :, : self._extent]

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

    def _bucket(self, extent: int) -> int:
        bucket = self._smallest
        while bucket < extent:
            bucket *= 2
        return bucket

    def _buffer(self, states: Tensor) -> Tensor:
        return zeros(states, (self._held_rows, states.shape[1], self._capacity, states.shape[3]))

    def _placed(self, buffer: Tensor) -> Tensor:
        """Return a view of the rows that the pass is over; all rows, if these lie apart."""
        return buffer if self._rows is not None else rows_of(buffer, self._first, len(self._slots))

    def _grow(self, capacity: int) -> None:
        """Make room for longer rows, of those that there are now only."""
        rows = len(self.lengths)
        self._replace(lambda buffer: grown(buffer[:rows], capacity))
        self._held_rows, self._capacity = rows, capacity

    def _hold(self, rows: int) -> None:
        """Make room for more rows."""
        self._replace(lambda buffer: torch.cat([buffer, buffer.new_zeros(rows - len(buffer), *buffer.shape[1:])]))
        self._held_rows = rows

    def _replace(self, larger: Callable[[Tensor], Tensor]) -> None:
        self.generation += 1  # first: if memory does not suffice, some buffers have moved all the same
        try:
            for buffers in (self._keys, self._values):
                for layer, buffer in enumerate(buffers):
                    buffers[layer] = larger(buffer)  # one after the other, so that little is held twice
        except BaseException:
            self._drop()
            raise

    def _drop(self) -> None:
        self._keys, self._values, self._capacity = [], [], self._smallest
        self.generation += 1

    def _write(self, buffer: Tensor, states: Tensor) -> Tensor:
        return put(self._placed(buffer), states, self._slots, self._rows, self._extent)


def make(options: StaticOptions, parts: Parts) -> StaticCache:
    """Return the cache."""
    return StaticCache(options.slots, options.max_slots)
