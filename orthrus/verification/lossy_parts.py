"""Parts that are not exact: caches and attention backends, held by themselves against plain ones on random numbers.

Within the bound that rounding in 16 bits leaves, a certificate cannot tell a cache of 7 bits from an honest one. A
cache is a matter of bits: what is read is what was written. An attention backend rounds, and is held to how much a
plain one does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from orthrus.build import build_part
from orthrus.config.schema import Config, PartConfig
from orthrus.interfaces import AttentionBackend, KVCache
from orthrus.optional import BoundsSlots
from orthrus.reference.attention import plain_attention, seen_keys
from orthrus.values import MaskDescription, Parts

HEADS, SIZE, LAYERS = 2, 64, 2
PROMPT, LONGEST = 512, 700  # tokens: old ones may be held otherwise than new ones
WIDTHS = (1, 4, 2, 6, 3)  # tokens of the passes that follow, of which some are kept
WORSE = 1.5  # than the plain one an attention's error may be; kernels that sum in other orders are at 1 or less
SCALE = 0.125


@dataclass(frozen=True)
class LossyPart:
    """A part that is to blame. kind: `cache` or `attention`; name: as a config has it; why: in words."""

    kind: str
    name: str
    why: str

    def __str__(self) -> str:
        return f"{self.kind} '{self.name}' is lossy: {self.why}"


def lossy_parts(config: Config, device: torch.device, dtype: torch.dtype) -> tuple[LossyPart, ...]:
    """Return the cache and the attention of a config that are not exact in a dtype; new ones are made and tried.

    Raises BuildError or InputError if one cannot be made, or does not take the pass.
    """
    checks: tuple[tuple[str, PartConfig | None, Callable[[Any], str | None]], ...] = (
        ("cache", config.cache, lambda cache: _cache_error(cache, device, dtype)),
        ("attention", config.attention, lambda attention: _attention_error(attention, device, dtype)),
    )
    results = ((kind, chosen, why(build_part(kind, chosen, Parts()))) for kind, chosen, why in checks if chosen)
    return tuple(LossyPart(kind, chosen.entry.name, why) for kind, chosen, why in results if why is not None)


@torch.no_grad()
def _cache_error(cache: KVCache, device: torch.device, dtype: torch.dtype) -> str | None:
    """Return what a cache does to keys and values, or None: it returns them as they came, bit by bit."""
    most = cache.max_slots if isinstance(cache, BoundsSlots) and cache.max_slots is not None else LONGEST
    generator = torch.Generator().manual_seed(0)
    cache.start(1, device)
    # Keys and values by layer; the last tokens of a pass are rejected, and written over by the next.
    written = torch.zeros(LAYERS, 2, 1, HEADS, LONGEST, SIZE, dtype=dtype, device=device)
    for width in _widths(min(most, LONGEST)):
        length = int(cache.lengths[0])
        slots = torch.arange(length, length + width, device=device)[None]
        states = torch.randn(LAYERS, 2, 1, HEADS, width, SIZE, generator=generator).to(device, dtype)
        written[..., length : length + width, :] = states
        cache.place(slots, length + width)
        for layer in range(LAYERS):
            given = written[layer, ..., : length + width, :]  # [2, 1, H, slots, D]
            update = cache.update(states[layer, 0].clone(), states[layer, 1].clone(), layer)
            returned = torch.stack([kept[..., : length + width, :] for kept in update])
            if not bool((returned == given).all()):
                off = (returned.double() - given.double()).abs()
                largest = float(off.nan_to_num(torch.inf).max())
                return f"of keys and values about 1 it returns some that are {largest:.2g} off what was written"
        cache.keep(torch.tensor([length + max(1, width - 1)], device=device))
    return None


def _widths(most: int) -> Iterator[int]:
    """Yield the widths of passes until a row is that long."""
    length = max(1, min(PROMPT, most - 8))
    yield length
    for index in range(most):
        width = WIDTHS[index % len(WIDTHS)]
        if length + width > most:
            return
        yield width
        length += max(1, width - 1)


@torch.no_grad()
def _attention_error(attention: AttentionBackend, device: torch.device, dtype: torch.dtype) -> str | None:
    """Return how much worse than a plain one an attention is, or None: it is not."""
    able = attention.capabilities
    size = SIZE if not able.head_sizes or SIZE in able.head_sizes else max(able.head_sizes)
    generator = torch.Generator().manual_seed(1)
    lengths = torch.tensor([300, 41], device=device)
    positions = lengths[:, None] + torch.arange(4, device=device)
    mask = MaskDescription("causal", positions, lengths, 304)
    query = torch.randn(2, 4, 2 * HEADS, size, generator=generator).to(device, dtype).transpose(1, 2)
    key, value = (torch.randn(2, HEADS, 304, size, generator=generator).to(device, dtype) for _ in range(2))
    prepared = attention.prepare(mask, None, dtype)
    seen = seen_keys(mask)
    exact = plain_attention(query.double(), key.double(), value.double(), seen, SCALE)
    own = _rms(attention.attend(query, key, value, prepared, scale=SCALE), exact)
    plain = _rms(plain_attention(query, key, value, seen, SCALE), exact)
    least = 4 * torch.finfo(dtype).eps  # of outputs about 1: of sums in another order, where there is no other error
    if own <= WORSE * plain or (dtype in (torch.float32, torch.float64) and own <= least):
        return None
    return f"it errs by {own:.2g} where a plain one errs by {plain:.2g}"


def _rms(actual: Tensor, exact: Tensor) -> float:
    return float((actual.double() - exact).square().mean().sqrt().nan_to_num(torch.inf))
