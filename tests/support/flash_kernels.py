"""FlashAttention's functions as their documentation describes them, in plain torch: what a CPU has instead."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def rows_by_length(
    query: Tensor, key: Tensor, value: Tensor, causal: bool, sides: tuple[int, int], **how: Any
) -> Tensor:
    """Return attention [n, H, D] of one row: query [n, H, D] over key and value [m, H_kv, D] that are in use.

    Aligned at the bottom right: the last query's place is the last key's. A query that sees nothing gives zeros.
    """
    queries, keys, groups = query.shape[0], key.shape[0], query.shape[1] // key.shape[1]
    key, value = (states.repeat_interleave(groups, 1).double() for states in (key, value))
    scores = torch.einsum("nhd,mhd->hnm", query.double(), key) * how["scale"]
    if how.get("softcap"):
        scores = how["softcap"] * torch.tanh(scores / how["softcap"])
    offset = torch.arange(queries)[:, None] + keys - queries
    slots = torch.arange(keys)
    left, right = sides[0], 0 if causal else sides[1]
    seen = torch.ones(queries, keys, dtype=torch.bool)
    if left >= 0:
        seen &= slots >= offset - left
    if right >= 0:
        seen &= slots <= offset + right
    scores = scores.masked_fill(~seen, float("-inf"))
    if how.get("sinks") is not None:  # the logit of a key without value
        scores = torch.cat([scores, how["sinks"].double()[:, None, None].expand(-1, queries, 1)], -1)
    weights = scores.softmax(-1).nan_to_num(0.0)[..., :keys]
    return torch.einsum("hnm,mhd->nhd", weights, value).to(query.dtype)


def varlen(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    starts_of_queries: Tensor,
    starts_of_keys: Tensor,
    most_queries: int,
    most_keys: int,
    dropout: float,
    causal: bool,
    debug: bool,
    *,
    scale: float,
    window_size_left: int,
    window_size_right: int,
    seqused_k: Tensor,
) -> tuple[Tensor]:
    """Return what `aten::_flash_attention_forward` does, and check what it checks."""
    rows = len(starts_of_queries) - 1
    for lengths in (starts_of_queries, starts_of_keys, seqused_k):
        assert lengths.dtype == torch.int32 and lengths.is_contiguous()
    assert len(starts_of_keys) == rows + 1 and seqused_k.shape == (rows,)
    assert all(states.stride(-1) == 1 for states in (query, key, value))
    assert key.shape == value.shape and query.shape[1] % key.shape[1] == 0 and query.shape[2] % 8 == 0
    assert dropout == 0.0 and not debug and int(seqused_k.max()) <= most_keys
    out = torch.full_like(query, float("nan"))
    for row in range(rows):
        first, end = starts_of_queries[row : row + 2].tolist()
        assert end - first <= most_queries
        begin = int(starts_of_keys[row])
        used = slice(begin, begin + int(seqused_k[row]))
        sides = (window_size_left, window_size_right)
        out[first:end] = rows_by_length(query[first:end], key[used], value[used], causal, sides, scale=scale)
    return (out,)


def with_cache(
    q: Tensor,
    k_cache: Tensor,
    v_cache: Tensor,
    *,
    cache_seqlens: Tensor,
    softmax_scale: float,
    causal: bool = False,
    window_size: tuple[int, int] = (-1, -1),
    softcap: float = 0.0,
) -> Tensor:
    """Return what `flash_attn_with_kvcache` of FlashAttention 2 and 3 does, and check what it checks."""
    assert cache_seqlens.dtype == torch.int32 and cache_seqlens.shape == q.shape[:1]
    assert k_cache.shape == v_cache.shape and k_cache.shape[0] == q.shape[0] and k_cache.stride(-1) == 1
    rows = [
        rows_by_length(query, keys[:used], values[:used], causal, window_size, scale=softmax_scale, softcap=softcap)
        for query, keys, values, used in zip(q, k_cache, v_cache, cache_seqlens.tolist(), strict=True)
    ]
    return torch.stack(rows)


def with_lengths(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    seqused_k: Tensor,
    softmax_scale: float,
    causal: bool = False,
    window_size: tuple[int | None, int | None] = (None, None),
    learnable_sink: Tensor | None = None,
    softcap: float = 0.0,
) -> tuple[Tensor, None]:
    """Return what `flash_attn_varlen_func` of FlashAttention 4 does with rows of as many queries each."""
    assert seqused_k.dtype == torch.int32 and all(side is None or side >= 0 for side in window_size)
    left, right = (-1 if side is None else side for side in window_size)
    how = {"scale": softmax_scale, "softcap": softcap, "sinks": learnable_sink}
    rows = [
        rows_by_length(query, keys[:used], values[:used], causal, (left, right), **how)
        for query, keys, values, used in zip(q, k, v, seqused_k.tolist(), strict=True)
    ]
    return torch.stack(rows), None
