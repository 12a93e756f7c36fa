"""Keys and values of a drafter's own rows, in buffers at fixed addresses.

B: rows, H: heads of keys, C: slots, d: size of a head. The token at position p of a row is in slot p. How many slots of
a row count is not kept here: whoever reads says so, row by row, and what lies beyond is overwritten. So cropping a row
is passing a smaller length, and nothing here waits for the host: a pass can be captured in a CUDA graph.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from orthrus.drafter_models.rotary import Rotary, RotaryTable


class KeyValues:
    """Hold keys and values [B, H, C, d] of every layer, and the feature [B, h] of each row's last position.

    Behind the slots is one more, which takes what must not be kept and is never read. Buffers start as zeros: a masked
    slot that held NaN would still spoil a sum. `rotary` are the angles of all slots' positions. `generation` counts how
    often buffers had to move.
    """

    def __init__(
        self,
        layers: int,
        heads: int,
        size: int,
        width: int,
        rotary: Rotary,
        dtype: torch.dtype,
        device: torch.device | str,
    ) -> None:
        """Begin without rows; width: of the features, 0 where a drafter has none."""
        self.slots = 0
        self.generation = 0
        self.rotary = RotaryTable(rotary, size, dtype, device)
        self.features = torch.zeros(0, width, dtype=dtype, device=device)  # [B, h]
        empty = torch.zeros(0, heads, 1, size, dtype=dtype, device=device)
        self.keys = [empty.clone() for _ in range(layers)]
        self.values = [empty.clone() for _ in range(layers)]

    @property
    def rows(self) -> int:
        """Return how many rows there are."""
        return len(self.features)

    def hold(self, rows: int, slots: int) -> None:
        """Make room for so many rows and slots, at least; nothing happens if there is room.

        What is held stays, but of rows beyond these when slots grow: else a long text would take as much for each of
        as many rows as there ever were.
        """
        if rows <= self.rows and slots <= self.slots:
            return
        rows, slots = rows if slots > self.slots else max(rows, self.rows), max(slots, self.slots)
        kept = min(rows, self.rows)
        self.generation += 1
        for buffers in (self.keys, self.values):
            for layer, buffer in enumerate(buffers):
                larger = buffer.new_zeros(rows, buffer.shape[1], slots + 1, buffer.shape[3])
                larger[:kept, :, : self.slots] = buffer[:kept, :, : self.slots]
                buffers[layer] = larger  # one after the other, so that little is held twice
        features = self.features.new_zeros(rows, self.features.shape[1])
        features[:kept] = self.features[:kept]
        self.features, self.slots = features, slots
        self.rotary.cover(slots + 1)  # positions may be taken one further

    def move_rows(self, sources: Sequence[int]) -> None:
        """Give each of the first rows what the row of that number had; -1: it holds nothing that counts."""
        self.hold(len(sources), self.slots)
        moves = [(row, source) for row, source in enumerate(sources) if source not in (row, -1)]
        if not moves:
            return
        targets, origins = torch.tensor(moves).to(self.features.device, non_blocking=True).unbind(1)
        for buffer in (*self.keys, *self.values, self.features):
            buffer[targets] = buffer[origins]

    def places(self, starts: Tensor, counts: Tensor, width: int) -> Tensor:
        """Return the slots [R, n] of rows' next tokens: from starts [R] on, counts [R] of n = width; else the spare."""
        columns = torch.arange(width, device=starts.device)
        return torch.where(columns < counts[:, None], starts[:, None] + columns, self.slots).clamp(max=self.slots)

    def write(self, layer: int, keys: Tensor, values: Tensor, slots: Tensor, rows: Tensor | None = None) -> None:
        """Write keys and values [R, H, n, d] into slots [R, n] of rows [R]; None: of the first R rows.

        What is not finite is written as 0: it would outlast its row behind every mask.
        """
        for buffer, given in ((self.keys[layer], keys), (self.values[layer], values)):
            states = given.nan_to_num(0.0, 0.0, 0.0)
            if rows is not None:
                buffer[rows[:, None], :, slots] = states.transpose(1, 2)
            elif len(slots) == 1:
                buffer[:1].index_copy_(2, slots[0], states)  # several times as quick on a CPU
            else:
                buffer[: len(slots)].scatter_(2, slots[:, None, :, None].expand(states.shape), states)

    def read(self, layer: int, rows: int, extent: int) -> tuple[Tensor, Tensor]:
        """Return views [rows, H, extent, d] of a layer's keys and values."""
        return self.keys[layer][:rows, :, :extent], self.values[layer][:rows, :, :extent]

    def nbytes(self) -> int:
        """Return the bytes of all buffers."""
        return sum(buffer.nbytes for buffer in (*self.keys, *self.values, self.features))
