"""The attention backend `sdpa`: torch's scaled_dot_product_attention, groups folded, keys never copied."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from orthrus import AttentionCapabilities, MaskDescription, Parts
from orthrus_attention.grouped_heads import fold, unfold
from orthrus_attention.masks import ALL_KINDS, visible
from orthrus_attention.unseen import looks, mended, spoiling, zeroed
from orthrus_attention.unsupported import refuse


class SdpaAttention:
    """Let torch choose the kernel. With a mask it would repeat grouped keys, so groups become query rows instead."""

    capabilities = AttentionCapabilities(kinds=ALL_KINDS, plain=True)

    def prepare(self, mask: MaskDescription, window: int | None, dtype: torch.dtype) -> Tensor:
        """Return what is visible: [B, 1, n, extent]."""
        return visible(mask, window)[:, None]

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
        """Return [B, H, n, D]; raise BuildError for a model with soft-capped scores or sinks."""
        refuse("sdpa", softcap, sinks)
        groups = query.shape[1] // key.shape[1]
        seen = prepared[:, 0]
        if not looks(value):  # torch's kernels add a mask to scores and multiply all values, whatever they are
            prepared = spoiling(key, value, prepared)
            key, value = zeroed(key), zeroed(value)
        # With one query a row, the rows that groups become see the same keys.
        mask = prepared if groups == 1 or query.shape[2] == 1 else prepared.repeat(1, 1, groups, 1)
        out = unfold(scaled_dot_product_attention(fold(query, groups), key, value, mask, scale=scale), groups)
        return mended(out, query, key, value, seen, scale)


def make(options: object, parts: Parts) -> SdpaAttention:
    """Return the backend."""
    return SdpaAttention()
