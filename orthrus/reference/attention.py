"""Attention as transformers writes it out, in the dtype of its inputs: what an exact backend is not much worse than.

B: rows, H: heads, n: queries, D: size of a head.
"""

from __future__ import annotations

import torch
from torch import Tensor

from orthrus.values import MaskDescription


def plain_attention(query: Tensor, key: Tensor, value: Tensor, seen: Tensor, scale: float) -> Tensor:
    """Return [B, H, n, D] for key and value [B, H_kv, extent, D]; seen [B, n, extent]: which keys a query sees.

    Products are in the inputs' dtype, the softmax in float32 at least.
    """
    groups = query.shape[1] // key.shape[1]
    key, value = (states.repeat_interleave(groups, 1) for states in (key, value))
    scores = (query @ key.transpose(2, 3) * scale).masked_fill(~seen[:, None], float("-inf"))
    weights = scores.softmax(-1, dtype=torch.promote_types(scores.dtype, torch.float32)).to(value.dtype)
    return weights @ value


def seen_keys(mask: MaskDescription) -> Tensor:
    """Return [B, n, extent]: true where a query of a causal pass sees the key in that slot."""
    return torch.arange(mask.extent, device=mask.positions.device) <= mask.positions[..., None]
