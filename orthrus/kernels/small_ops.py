"""The small operations of a decoder layer, each in one kernel on a GPU and written out in torch elsewhere.

Both compute in float32 at least and round once at the end. B: rows, n: queries, E: hidden size, D: size of a head.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

HeadNorms = tuple[Tensor, Tensor, float]  # weights [D] of queries and of keys, and epsilon


class LayerCache(Protocol):
    """The cache as layers take it."""

    def reserve(self, layer: int, like: Tensor, heads: int, size: int) -> tuple[Tensor, Tensor, Tensor] | None:
        """Return a layer's buffers [B, heads, C, size] and the placed slots, or None: `update` must be used."""

    def read(self, layer: int) -> tuple[Tensor, Tensor]:
        """Return all keys and values of a layer whose buffers were reserved."""

    def update(self, keys: Tensor, values: Tensor, layer: int) -> tuple[Tensor, Tensor]:
        """Write the new keys and values of a layer [B, H_kv, n, D], and return all of them."""


def rms_norm(hidden: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    """Return hidden [..., E] over its root mean square, times weight [E]."""
    if hidden.is_cuda:
        from orthrus.kernels import triton_small_ops

        return triton_small_ops.rms_norm(hidden, weight, epsilon)
    return torch.nn.functional.rms_norm(hidden, (hidden.shape[-1],), weight, epsilon)


def silu_product(joined: Tensor) -> Tensor:
    """Return silu(gate) * up [..., I] for the two side by side [..., 2 I]."""
    if joined.is_cuda:
        from orthrus.kernels import triton_small_ops

        return triton_small_ops.silu_product(joined)
    gate, up = joined.chunk(2, dim=-1)
    return torch.nn.functional.silu(gate) * up


def split_heads(
    joined: Tensor,
    heads: tuple[int, int],
    cosine: Tensor,
    sine: Tensor,
    norms: HeadNorms | None,
    cache: LayerCache,
    layer: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return query [B, H, n, D] and a layer's keys and values, those of joined [B, n, (H + 2 H_kv) D] among them.

    Query and key are rotated by cosine and sine [B or 1, n, D], after the norms of heads (weights [D] and epsilon) if
    there are any. heads: H and H_kv. On a GPU buffers that the cache reserves are written by the same kernel.
    """
    if joined.is_cuda:
        from orthrus.kernels import triton_small_ops

        size = joined.shape[-1] // (heads[0] + 2 * heads[1])
        reserved = cache.reserve(layer, joined, heads[1], size)
        query, key, value = triton_small_ops.split_heads(joined, heads, cosine, sine, norms, reserved)
        return (query, *(cache.read(layer) if reserved else cache.update(key, value, layer)))
    rows, queries = joined.shape[:2]
    every, few = heads
    parts = joined.view(rows, queries, every + 2 * few, -1).transpose(1, 2)
    turned, value = parts[:, : every + few], parts[:, every + few :]
    if norms is not None:
        query, key = turned[:, :every], turned[:, every:]
        turned = torch.cat([rms_norm(query, norms[0], norms[2]), rms_norm(key, norms[1], norms[2])], dim=1)
    turned = rotate(turned, cosine[:, None], sine[:, None])
    return (turned[:, :every], *cache.update(turned[:, every:], value, layer))


def split_heads_of_two_kinds(
    joined: Tensor,
    first: int,
    heads: tuple[int, int],
    cosine: Tensor,
    sine: Tensor,
    norms: tuple[HeadNorms, HeadNorms],
    reserved: tuple[Tensor, Tensor, Tensor],
) -> Tensor:
    """Return queries [1, H, m, D] of one row joined [1, m, (H + 2 H_kv) D] on a GPU, and write its keys and values.

    The first tokens, so many, take the first norms of heads; the others the second, with the same epsilon. reserved:
    buffers and slots [1, m], as a cache reserves them.
    """
    from orthrus.kernels import triton_small_ops

    return triton_small_ops.split_heads_of_two_kinds(joined, first, heads, cosine, sine, norms, reserved)


def rotate(states: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Return states [..., D] turned by their positions' angles; cosine and sine are of a shape that broadcasts."""
    half = states.shape[-1] // 2
    turned = torch.cat([-states[..., half:], states[..., :half]], dim=-1)
    return states * cosine + turned * sine
