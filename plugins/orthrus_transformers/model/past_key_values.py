"""The cache argument of a transformers model, over a cache of keys and values."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from orthrus import KVCache
from orthrus.optional import StaticKVCache


class PastKeyValues:
    """The cache argument of a transformers model: a KVCache, and the one length that a model may ask for."""

    is_compileable = True

    def __init__(self, cache: KVCache) -> None:
        self.cache = cache
        self._static = cache if isinstance(cache, StaticKVCache) else None
        self.length = 0  # of the longest row, on the host

    def update(self, keys: Tensor, values: Tensor, layer: int, *args: Any, **more: Any) -> tuple[Tensor, Tensor]:
        """Write a layer's new keys and values and return all of them."""
        return self.cache.update(keys, values, layer)

    def reserve(self, layer: int, like: Tensor, heads: int, size: int) -> tuple[Tensor, Tensor, Tensor] | None:
        """Return a layer's buffers to be written by a kernel, as a static cache does; None: `update` must be used."""
        return None if self._static is None else self._static.reserve(layer, like, heads, size)

    def read(self, layer: int) -> tuple[Tensor, Tensor]:
        """Return all keys and values of a layer whose buffers were reserved."""
        assert self._static is not None, "only a static cache reserves buffers"
        return self._static.read(layer)

    def get_seq_length(self, layer: int = 0) -> int:
        """Return the slots before the pass; positions are given, so models ask without using it."""
        return self.length
