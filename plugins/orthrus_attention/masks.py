"""Dense masks: the keys that a query sees, as booleans."""

from __future__ import annotations

import torch
from torch import Tensor

from orthrus import MaskDescription

ALL_KINDS = frozenset({"causal", "block", "tree", "blocks"})  # of masks


def visible(mask: MaskDescription, window: int | None) -> Tensor:
    """Return [B, n, extent]: true where the query may see the key in that slot."""
    slots = torch.arange(mask.extent, device=mask.positions.device)  # [extent]
    positions = mask.positions[..., None]  # [B, n, 1]
    if mask.kind in ("tree", "blocks"):
        return _visible_in_tree(mask, slots, window)
    if mask.kind == "causal":
        seen = slots <= positions
    else:
        own = (slots[None, None] == positions).any(1, keepdim=True)  # [B, 1, extent]
        seen = ((slots < mask.lengths[:, None, None]) | own).expand(-1, positions.shape[1], -1)
    return seen if window is None else seen & (slots > positions - window)


def _visible_in_tree(mask: MaskDescription, slots: Tensor, window: int | None) -> Tensor:
    paths = mask.paths
    assert paths is not None, "a tree is described by its paths"
    column = slots - mask.lengths[:, None]  # [B, extent]; of the pass, if it is one
    inside = (column >= 0) & (column < paths.shape[2])
    column = column.clamp(0, paths.shape[2] - 1)
    own = paths.gather(2, column[:, None].expand(-1, paths.shape[1], -1)) & inside[:, None]  # [B, n, extent]
    seen = own | (slots < mask.lengths[:, None])[:, None]
    if window is None:
        return seen
    scored = paths.shape[2] - paths.shape[1]  # columns before those of blocks
    before = mask.lengths[:, None] + torch.arange(scored, device=slots.device)
    places = torch.cat([before, mask.positions], dim=1)  # [B, m]
    depths = torch.where(inside, places.gather(1, column), slots)  # [B, extent] where in the text a key is
    return seen & (depths[:, None] > mask.positions[..., None] - window)
