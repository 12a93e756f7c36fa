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
    place = torch.arange(queries)[:, None] + keys - queries
    slots = torch.arange(keys)
    left, right = sides[0], 0 if causal else sides[1]
    seen = torch.ones(queries, keys, dtype=torch.bool)
    if left >= 0:
        seen &= slots >= place - left
    if right >= 0:
        seen &= slots <= place + right
    weights = scores.masked_fill(~seen, float("-inf")).softmax(-1).nan_to_num(0.0)
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
