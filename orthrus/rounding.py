"""Rounding that parts tell of: caches that hold keys and values in fewer bits, targets that compute states in fewer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@runtime_checkable
class RoundsStates(Protocol):
    """A KV cache that gives keys and values back rounded.

    Each token is rounded by itself, so that in exact arithmetic drafts change no token: the text is that of the same
    cache without a drafter. It is not that of a cache that rounds nothing.
    """

    def rounded(self, states: Tensor) -> Tensor:
        """Return what `update` gives back of keys or values [..., D], whichever pass, row or slot they come in."""


def as_held(cache: object, states: Tensor) -> Tensor:
    """Return keys or values [..., D] as a cache gives them back: as they came, if it does not say otherwise."""
    return cache.rounded(states) if isinstance(cache, RoundsStates) else states


@runtime_checkable
class HasStateDtype(Protocol):
    """A target whose layers compute their states in a dtype that may be narrower than that of its logits.

    The logits of two passes over one text, of other widths, are then as far apart as the narrower one rounds.
    """

    state_dtype: torch.dtype | None  # None: that of the logits
