"""The attention backend `eager`: matrix products and a softmax, written out; the reference for all others."""

from __future__ import annotations

import torch
from torch import Tensor

from orthrus import AttentionCapabilities, MaskDescription, Parts
from orthrus_attention.grouped_heads import fold, unfold
from orthrus_attention.masks import ALL_KINDS, visible
from orthrus_attention.unseen import looks, mended, zeroed


class EagerAttention:
    """Compute softmax(q k^T) v step by step, with soft-capping and sinks where a model has them."""

    capabilities = AttentionCapabilities(kinds=ALL_KINDS, softcap=True, sinks=True, plain=True)

    def prepare(self, mask: MaskDescription, window: int | None, dtype: torch.dtype) -> Tensor:
        """Return what is visible: [B, n, extent]."""
        return visible(mask, window)

    def attend(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        prepared: Tensor,
        *,
        scale: float,
        softcap: float | None = None,
        sinks: Tensor | None = None,
    ) -> Tensor:
        """Return [B, H, n, D]; the softmax is in float32 at least. sinks [H]: the logits of a key without value."""
        groups = query.shape[1] // key.shape[1]
        scores = product(fold(query, groups), key.transpose(2, 3)) * scale  # [B, H_kv, groups * n, extent]
        if softcap is not None:
            scores = softcap * torch.tanh(scores / softcap)
        scores = unfold(scores, groups).masked_fill(~prepared[:, None], float("-inf"))  # [B, H, n, extent]
        weights = _softmax(scores, sinks).to(value.dtype)
        if not looks(value):
            value = zeroed(value)
        out = unfold(product(fold(weights, groups), value).to(query.dtype), groups)
        return mended(out, query, key, value, prepared, scale, softcap, sinks)


def product(left: Tensor, right: Tensor) -> Tensor:
    """Return left [B, H, m, k] times right [B, H, k, n], in float32 on a GPU whatever the dtype of the two.

    A score of 6 that is rounded to float16 is off by up to 0.003, and so is its weight's share. Other devices have no
    product of narrow types with a wide result, and widening the keys would copy them.
    """
    if not left.is_cuda or left.dtype not in (torch.float16, torch.bfloat16):
        return torch.matmul(left, right)
    wide: Tensor = torch.bmm(left.flatten(0, 1), right.flatten(0, 1), out_dtype=torch.float32)
    return wide.view(*left.shape[:3], right.shape[3])


def _softmax(scores: Tensor, sinks: Tensor | None) -> Tensor:
    wide = torch.promote_types(scores.dtype, torch.float32)
    if sinks is None:
        return scores.softmax(dim=-1, dtype=wide)
    column = sinks.to(scores.dtype)[None, :, None, None].expand(*scores.shape[:3], 1)
    return torch.cat([scores, column], dim=-1).softmax(dim=-1, dtype=wide)[..., :-1]


def make(options: object, parts: Parts) -> EagerAttention:
    """Return the backend."""
    return EagerAttention()
