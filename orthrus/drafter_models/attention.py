"""Attention of a drafter's layer over its own keys and values, and its mask.

R: rows, n: tokens, H: heads, Hkv: heads of keys, G = H / Hkv, E: slots that are read, d: size of a head.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention


def attention_mask(visible: Tensor, groups: int, dtype: torch.dtype) -> Tensor:
    """Return what is added to the scores [R, G, n, E]; made once for all layers that see the same.

    visible [R, n, E]: which slots each token sees, one at least. groups: G. dtype: of keys and values.
    """
    hidden = torch.zeros(visible.shape, dtype=dtype, device=visible.device).masked_fill(~visible, -torch.inf)
    return hidden[:, None].repeat(1, groups, 1, 1)


def attend(queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> Tensor:
    """Return what queries [R, H, n, d] make of keys and values [R, Hkv, E, d], [R, n, H d]; mask [R, G, n, E].

    Heads that share a key are further tokens of it, so that keys are not repeated.
    """
    rows, heads, tokens, size = queries.shape
    queries = queries.reshape(rows, keys.shape[1], -1, size)
    result = scaled_dot_product_attention(queries, keys, values, attn_mask=mask.flatten(1, 2)[:, None])
    return result.reshape(rows, heads, tokens, size).transpose(1, 2).flatten(2)
