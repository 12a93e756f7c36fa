"""Dense masks: the keys that a query sees, as booleans."""

from __future__ import annotations

import torch
from torch import Tensor

from orthrus import MaskDescription


def visible(mask: MaskDescription, window: int | None) -> Tensor:
    """Return [B, n, extent]: true where the query may see the key in that slot."""
    slots = torch.arange(mask.extent, device=mask.positions.device)  # [extent]
    positions = mask.positions[..., None]  # [B, n, 1]
    if mask.kind == "causal":
        seen = slots <= positions
    else:
        own = (slots[None, None] == positions).any(1, keepdim=True)  # [B, 1, extent]
        seen = ((slots < mask.lengths[:, None, None]) | own).expand(-1, positions.shape[1], -1)
    return seen if window is None else seen & (slots > positions - window)
