"""Masks of a block: which slots its rows see. B: rows, K: width of the block, E: slots that are read."""

from __future__ import annotations

import torch
from torch import Tensor

from orthrus_dflash.config import LayerKind


def block_mask(kind: LayerKind, lengths: Tensor, widths: Tensor, block: int, extent: int) -> Tensor:
    """Return which slots each row of a block sees [B, K, E], True where it does.

    lengths [B]: rows of the context, which is also the anchor's position. widths [B]: rows of the block that count; the
    others see what the last one that counts does, so that nothing is undefined.
    """
    slots = torch.arange(extent, device=lengths.device)
    anchors = lengths[:, None, None]
    columns = torch.arange(block, device=lengths.device).clamp(max=widths[:, None] - 1)
    queries = (lengths[:, None] + columns)[..., None]  # [B, K, 1]
    visible = slots < anchors + widths[:, None, None]
    if kind.causal:
        visible = visible & (slots <= queries)
    if kind.window is None:
        return visible.expand(-1, block, -1)
    if kind.window_from == "anchor":
        return (visible & (slots >= anchors - kind.window)).expand(-1, block, -1)
    visible = visible & (queries - slots < kind.window)
    return visible if kind.causal else visible & (slots - queries < kind.window)
