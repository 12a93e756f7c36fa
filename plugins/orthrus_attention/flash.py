"""The attention backend `flash`: torch's own FlashAttention kernels, fed lengths instead of masks."""

from __future__ import annotations

import torch
from torch import Tensor

from orthrus import AttentionCapabilities, BuildError, MaskDescription, Parts
from orthrus_attention.grouped_heads import fold
from orthrus_attention.unsupported import refuse
from orthrus_attention.varlen import Lengths, as_tokens

HEAD_SIZES = frozenset(range(8, 257, 8))


class FlashAttention:
    """Hand the cache's buffers to the kernel as they are, with the slots in use of each row."""

    capabilities = AttentionCapabilities(
        devices=frozenset({"cuda"}),
        dtypes=frozenset({"bfloat16", "float16"}),
        head_sizes=HEAD_SIZES,
        hides_any_value=False,  # the kernel multiplies hidden values of a block by 0
    )

    def prepare(self, mask: MaskDescription, window: int | None, dtype: torch.dtype) -> Lengths:
        """Return the lengths: [B]; no mask is built."""
        return Lengths.of(mask, window)

    def attend(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        prepared: Lengths,
        *,
        scale: float,
        softcap: float | None = None,
        sinks: Tensor | None = None,
    ) -> Tensor:
        """Return [B, H, n, D]; raise BuildError for a model with soft-capped scores or sinks."""
        refuse("flash", softcap, sinks)
        if not prepared.same_for_all(query.shape[2]):
            return _attend(query, key, value, prepared, scale)
        # Queries that see the same keys may stand beside one another as heads. One query a row is the form in which the
        # kernel splits long keys over the whole GPU, and it reads a key head once for all heads that share it.
        folded = fold(query, query.shape[1] // key.shape[1])  # [B, H_kv, groups * n, D]
        heads = folded.flatten(1, 2)[:, :, None]  # [B, H_kv * groups * n, 1, D]
        return _attend(heads, key, value, prepared, scale).reshape(query.shape)


def _attend(query: Tensor, key: Tensor, value: Tensor, lengths: Lengths, scale: float) -> Tensor:
    rows, heads, queries, size = query.shape
    keys, distance = as_tokens(key)
    values, distance_of_values = as_tokens(value)
    if distance_of_values != distance:  # the kernel takes one set of starts for both
        (keys, distance), (values, _) = as_tokens(key.contiguous()), as_tokens(value.contiguous())
    left, right = lengths.sides
    out: Tensor = varlen(
        query.transpose(1, 2).reshape(rows * queries, heads, size),
        keys,
        values,
        lengths.starts(queries),
        lengths.starts(distance),
        queries,
        key.shape[2],
        0.0,  # no dropout
        lengths.causal,
        False,
        scale=scale,
        window_size_left=left,
        window_size_right=right,
        seqused_k=lengths.used,
    )[0]  # [B * n, H, D]
    return out.view(rows, queries, heads, size).transpose(1, 2)


# `torch.nn.attention.varlen` takes lengths of keys only from torch 2.12 on, the operator under it did before. Of its
# newer arguments `block_table` must stay unused: it splits keys and mixes up rows (pytorch#194167).
varlen = torch.ops.aten._flash_attention_forward


def make(options: object, parts: Parts) -> FlashAttention:
    """Return the backend; raise BuildError where torch has no such kernels."""
    if not torch.backends.cuda.is_flash_attention_available():
        raise BuildError(
            "attention 'flash' needs torch with CUDA and its FlashAttention kernels; set attention.name=sdpa"
        )
    return FlashAttention()
