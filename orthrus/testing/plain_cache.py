"""A KV cache written as plainly as it can be: what every cache is held to, and what the kit's targets read."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


class PlainCache:
    """Hold for each row and layer a mapping from slot to key and value. Slow, and nothing to get wrong."""

    def __init__(self) -> None:
        self.lengths = torch.zeros(0, dtype=torch.int64)
        self._held: dict[tuple[int, int, int], tuple[Tensor, Tensor]] = {}  # (layer, row, slot): key and value [H, D]

    def start(self, rows: int, device: torch.device) -> None:
        """Forget everything and hold `rows` rows of length 0."""
        self.lengths = torch.zeros(rows, dtype=torch.int64, device=device)
        self._held = {}

    def place(self, slots: Tensor, extent: int, rows: Tensor | None = None) -> int:
        """Set where the next pass writes: slots [R, n] of rows [R]; return the extent."""
        self._slots = slots.tolist()
        self._rows = list(range(len(self.lengths))) if rows is None else rows.tolist()
        self._extent = extent
        return extent

    def update(self, keys: Tensor, values: Tensor, layer: int) -> tuple[Tensor, Tensor]:
        """Write [R, H, n, D] and return [R, H, extent, D], zeros in slots that nobody wrote."""
        written = keys.clone().transpose(1, 2), values.clone().transpose(1, 2)  # [R, n, H, D]
        pairs = [
            list(zip(key, value, strict=True)) for key, value in zip(*(one.unbind() for one in written), strict=True)
        ]
        for row, slots, places in zip(self._rows, self._slots, pairs, strict=True):
            self._held |= {(layer, row, slot): pair for slot, pair in zip(slots, places, strict=True)}
        nothing = keys.new_zeros(keys.shape[1], keys.shape[3])
        found = [
            [self._held.get((layer, row, slot), (nothing, nothing)) for slot in range(self._extent)]
            for row in self._rows
        ]
        key, value = (torch.stack([torch.stack([pair[side] for pair in row], 1) for row in found]) for side in (0, 1))
        return key, value

    def keep(self, lengths: Tensor) -> None:
        """Commit exactly the first lengths [B] slots of each row; what was beyond is gone."""
        self.lengths = lengths
        kept = lengths.tolist()
        self._held = {place: pair for place, pair in self._held.items() if place[2] < kept[place[1]]}

    def bytes_in_use(self) -> int:
        """Return the bytes of keys and values."""
        return sum(key.nbytes + value.nbytes for key, value in self._held.values())

    def committed(
        self, lengths: Sequence[int] | None = None
    ) -> dict[tuple[int, int, int], tuple[list[object], list[object]]]:
        """Return all committed keys and values, by layer, row and slot; lengths: of rows that are to be kept."""
        kept = self.lengths.tolist() if lengths is None else lengths
        return {
            place: (key.tolist(), value.tolist())
            for place, (key, value) in self._held.items()
            if place[2] < kept[place[1]]
        }
