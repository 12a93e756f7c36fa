"""A KV cache written as plainly as it can be: a dictionary of slots for each row. For tables; slow."""

from __future__ import annotations

import torch
from torch import Tensor

Slots = dict[int, tuple[Tensor, Tensor]]  # slot -> key [H, D] and value [H, D]


class PlainCache:
    """Hold what was written last into each slot of each row, layer by layer."""

    def __init__(self) -> None:
        self.lengths = torch.zeros(0, dtype=torch.int64)  # [B]
        self._held: dict[int, list[Slots]] = {}  # layer -> of each row
        self._placed: list[tuple[int, list[int]]] = []  # the pass: its rows, each with the slots it writes
        self._extent = 0

    def start(self, rows: int, device: torch.device) -> None:
        """Forget everything and hold `rows` rows of length 0."""
        self.lengths = torch.zeros(rows, dtype=torch.int64, device=device)
        self._held = {}

    def place(self, slots: Tensor, extent: int, rows: Tensor | None = None) -> int:
        """Set where the next pass writes: slots [R, n] of rows [R]; extent, returned, is the highest slot plus 1."""
        chosen = range(len(self.lengths)) if rows is None else rows.tolist()
        self._placed = list(zip(chosen, slots.tolist(), strict=True))
        self._extent = extent
        return extent

    def update(self, keys: Tensor, values: Tensor, layer: int) -> tuple[Tensor, Tensor]:
        """Write [R, H, n, D] into the placed slots and return [R, H, extent, D], zeros where nothing was written."""
        held = self._held.setdefault(layer, [{} for _ in range(len(self.lengths))])
        seen = [keys.new_zeros(len(keys), keys.shape[1], self._extent, keys.shape[3]) for _ in range(2)]
        for place, (row, slots) in enumerate(self._placed):
            held[row] |= {slot: (keys[place, :, n], values[place, :, n]) for n, slot in enumerate(slots)}
            for slot, pair in held[row].items():
                for tensor, state in zip(seen, pair, strict=True):
                    tensor[place, :, slot : slot + 1] = state[:, None]  # nothing, for a slot beyond the extent
        return seen[0], seen[1]

    def keep(self, lengths: Tensor) -> None:
        """Commit exactly the first lengths [B] slots of each row."""
        self.lengths = lengths

    def bytes_in_use(self) -> int:
        """Return the bytes of all slots that were written."""
        return sum(
            key.nbytes + value.nbytes for rows in self._held.values() for row in rows for key, value in row.values()
        )
