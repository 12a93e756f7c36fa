"""The cache `quantized`: keys and values in 8 bits. B: rows, H: heads of keys, C: slots held, D: size of a head.

R: rows of a pass, n: its columns, G: groups of a head that have a scale each.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from orthrus import Parts
from orthrus_caches.dynamic import DynamicCache
from orthrus_caches.options import QuantizedOptions
from orthrus_caches.quantization import FORMATS, dequantize, quantize


class QuantizedCache:
    """Keep keys and values as codes [B, H, C, D] of 8 bits and scales [B, H, C, G]; each pass gets them widened again.

    It rounds: a text is that of this cache without a drafter, and not that of another cache. What a pass writes comes
    back to the pass itself as it is held, so that it makes no difference whether tokens come one by one or in a draft,
    as far as they come as the same numbers: at the edge of a code their last bit decides.
    """

    moves_rows = True

    def __init__(self, group: int = 32, codes: str = "int8") -> None:
        """Hold nothing. group: numbers of a head that share a scale; codes: their format, of FORMATS."""
        self._group, self._format = group, FORMATS[codes]
        self._codes, self._scales = DynamicCache(), DynamicCache()

    @property
    def lengths(self) -> Tensor:
        """How many slots of each row are committed: [B]."""
        return self._codes.lengths

    def start(self, rows: int, device: torch.device) -> None:
        """Forget everything and hold `rows` rows of length 0."""
        for cache in (self._codes, self._scales):
            cache.start(rows, device)

    def move_rows(self, sources: Sequence[int]) -> None:
        """Hold as many rows as there are sources; each has what the row of that number had, -1 nothing."""
        for cache in (self._codes, self._scales):
            cache.move_rows(sources)

    def place(self, slots: Tensor, extent: int, rows: Tensor | None = None) -> int:
        """Set where the next pass writes: slots [R, n] of rows [R]; extent, returned, is the highest slot plus 1."""
        self._codes.place(slots, extent, rows)
        return self._scales.place(slots, extent, rows)

    def place_adjacent(self, slots: Tensor, extent: int, first: int) -> int:
        """Place slots [R, n] of the R rows from `first` on, whose codes are read where they lie."""
        self._codes.place_adjacent(slots, extent, first)
        return self._scales.place_adjacent(slots, extent, first)

    def update(self, keys: Tensor, values: Tensor, layer: int) -> tuple[Tensor, Tensor]:
        """Write [R, H, n, D] into the placed slots; return all that the layer holds, widened: [R, H, extent, D]."""
        key_codes, key_scales = quantize(keys, self._group, self._format)
        value_codes, value_scales = quantize(values, self._group, self._format)
        codes = self._codes.update(key_codes, value_codes, layer)
        scales = self._scales.update(key_scales, value_scales, layer)
        return self._widened(codes[0], scales[0], keys.dtype), self._widened(codes[1], scales[1], values.dtype)

    def rounded(self, states: Tensor) -> Tensor:
        """Return what `update` gives back of keys or values [..., D]."""
        return self._widened(*quantize(states, self._group, self._format), states.dtype)

    def move_slots(self, first: Tensor, order: Tensor) -> None:
        """Let slot first [B] + i of each row have what its slot first + order [B, n] at i has: codes and scales."""
        for cache in (self._codes, self._scales):
            cache.move_slots(first, order)

    def keep(self, lengths: Tensor) -> None:
        """Commit exactly the first lengths [B] slots of each row."""
        for cache in (self._codes, self._scales):
            cache.keep(lengths)

    def bytes_in_use(self) -> int:
        """Return the bytes of all codes and scales; what a pass gets widened is gone with the layer."""
        return self._codes.bytes_in_use() + self._scales.bytes_in_use()

    def _widened(self, codes: Tensor, scales: Tensor, dtype: torch.dtype) -> Tensor:
        return dequantize(codes, scales, self._group, self._format, dtype)


def make(options: QuantizedOptions, parts: Parts) -> QuantizedCache:
    """Return the cache."""
    return QuantizedCache(options.group, options.codes)
