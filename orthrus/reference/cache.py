"""A KV cache written as plainly as it can be: what every cache is held to, and what the kit's targets read."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


class PlainCache:
    """A KV cache as mappings: for each row and layer, slot to key and value. Slow, and nothing to get wrong."""

    moves_rows = True

    def __init__(self) -> None:
        self.lengths = torch.zeros(0, dtype=torch.int64)
        self._held: dict[tuple[int, int, int], Tensor] = {}  # (layer, row, slot): key and value [2, H, D]

    def start(self, rows: int, device: torch.device) -> None:
        """Forget everything and hold `rows` rows of length 0."""
        self.lengths = torch.zeros(rows, dtype=torch.int64, device=device)
        self._held = {}

    def move_rows(self, sources: Sequence[int]) -> None:
        """Hold as many rows as there are sources; each has what the row of that number had, -1 nothing."""
        counts = self.lengths.tolist()
        lengths = [counts[source] if source >= 0 else 0 for source in sources]
        self.lengths = torch.tensor(lengths, dtype=torch.int64, device=self.lengths.device)
        targets = {source: row for row, source in enumerate(sources) if source >= 0}
        self._held = {
            (layer, targets[row], slot): pair for (layer, row, slot), pair in self._held.items() if row in targets
        }

    def place(self, slots: Tensor, extent: int, rows: Tensor | None = None) -> int:
        """Set where the next pass writes: slots [R, n] of rows [R]; return the extent."""
        self._slots = slots.tolist()
        self._rows = list(range(len(self.lengths))) if rows is None else rows.tolist()
        self._extent = extent
        return extent

    def update(self, keys: Tensor, values: Tensor, layer: int) -> tuple[Tensor, Tensor]:
        """Write [R, H, n, D] and return [R, H, extent, D], zeros in slots that nobody wrote."""
        places = [(layer, row, slot) for row, slots in zip(self._rows, self._slots, strict=True) for slot in slots]
        pairs = torch.stack([keys, values]).permute(1, 3, 0, 2, 4).flatten(0, 1)  # [R * n, 2, H, D]
        self._held |= zip(places, pairs.unbind(), strict=True)
        nothing = pairs.new_zeros(pairs.shape[1:])
        slot_pairs = [self._held.get((layer, row, slot), nothing) for row in self._rows for slot in range(self._extent)]
        states = torch.stack(slot_pairs).reshape(len(self._rows), self._extent, *nothing.shape)
        key, value = states.permute(2, 0, 3, 1, 4).contiguous()
        return key, value

    def move_slots(self, first: Tensor, order: Tensor) -> None:
        """Let slot first [B] + i of each row have what its slot first + order [B, n] at i has."""
        before = dict(self._held)
        for layer in {key[0] for key in before}:
            for row, (start, sources) in enumerate(zip(first.tolist(), order.tolist(), strict=True)):
                for index, source in enumerate(sources):
                    self._held.pop((layer, row, start + index), None)
                    if (layer, row, start + source) in before:
                        self._held[layer, row, start + index] = before[layer, row, start + source]

    def keep(self, lengths: Tensor) -> None:
        """Commit exactly the first lengths [B] slots of each row; what was beyond is gone."""
        self.lengths = lengths
        counts = lengths.tolist()
        self._held = {key: pair for key, pair in self._held.items() if key[2] < counts[key[1]]}

    def bytes_in_use(self) -> int:
        """Return the bytes of keys and values."""
        return sum(pair.nbytes for pair in self._held.values())

    def committed(
        self, lengths: Sequence[int] | None = None
    ) -> dict[tuple[int, int, int], tuple[list[object], list[object]]]:
        """Return all committed keys and values, by layer, row and slot; lengths: of rows that are to be kept."""
        counts = self.lengths.tolist() if lengths is None else lengths
        return {
            key: (pair[0].tolist(), pair[1].tolist()) for key, pair in self._held.items() if key[2] < counts[key[1]]
        }
