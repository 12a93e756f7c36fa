"""Arguments of varlen attention kernels, which take lengths instead of masks, for one pass."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from orthrus import MaskDescription


@dataclass(frozen=True, eq=False)
class Lengths:
    """The slots of each row in use, [B] int32, and those that the queries see.

    causal: the last query sees all slots in use, the one before it all but one, and so on: its own position is the last
    one that a query sees. In a prefill with rolled columns the scratch columns come first and may see nothing then;
    their outputs are not read. Not causal: every query sees all slots in use. window: see MaskDescription.
    """

    used: Tensor
    causal: bool
    window: int | None
    known: dict[int, Tensor] = field(default_factory=dict)  # starts by distance, the same for all layers of a pass

    @classmethod
    def of(cls, mask: MaskDescription, window: int | None) -> Lengths:
        """Return the lengths of a mask, computed on the device."""
        used = (mask.positions[:, -1] + 1).to(torch.int32)
        return cls(used, mask.kind == "causal", window)

    @property
    def sides(self) -> tuple[int, int]:
        """The keys that a query sees left and right of its own position, what `causal` says aside; -1: all."""
        return (-1, -1) if self.window is None else (self.window - 1, 0 if self.causal else -1)

    def same_for_all(self, queries: int) -> bool:
        """Return whether all queries of a row see the same keys."""
        return self.window is None and (queries == 1 or not self.causal)

    def starts(self, distance: int) -> Tensor:
        """Return where the rows start, [B + 1] int32, that lie this many tokens apart."""
        if distance not in self.known:
            self.known[distance] = starts(len(self.used), distance, self.used.device)
        return self.known[distance]


def as_tokens(states: Tensor) -> tuple[Tensor, int]:
    """Return states [B, H, C, D] as tokens [T, H, D], and how many tokens lie between the first ones of two rows.

    A view where the rows lie a whole number of tokens apart, as in a cache's buffers: what lies between the used slots
    of two rows (other heads, slots not in use) counts as tokens that no one reads. Anything else is copied.
    """
    rows, heads, slots, size = states.shape
    row, head, token, element = states.stride()
    if element != 1 or token == 0 or (rows > 1 and row % token):
        return as_tokens(states.contiguous())
    distance = row // token if rows > 1 else slots
    return states.as_strided(((rows - 1) * distance + slots, heads, size), (token, head, 1)), distance


def starts(rows: int, distance: int, device: torch.device) -> Tensor:
    """Return where each row's tokens start, and where the last row's would end: [B + 1] int32."""
    return torch.arange(0, (rows + 1) * distance, distance, dtype=torch.int32, device=device)
