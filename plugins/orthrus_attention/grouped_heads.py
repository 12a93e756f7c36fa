"""Grouped queries without repeated keys: the heads that share a key head become more rows of queries."""

from __future__ import annotations

from torch import Tensor


def fold(states: Tensor, groups: int) -> Tensor:
    """Return [B, H_kv, groups * n, D] for states [B, H_kv * groups, n, D]."""
    rows, heads, queries, size = states.shape
    return states.reshape(rows, heads // groups, groups * queries, size)


def unfold(states: Tensor, groups: int) -> Tensor:
    """Return [B, H_kv * groups, n, D] for states [B, H_kv, groups * n, D]."""
    rows, heads, queries, size = states.shape
    return states.reshape(rows, heads * groups, queries // groups, size)
