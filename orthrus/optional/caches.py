"""Abilities of KV caches: buffers that stay or are lent, rows that begin and end, prefixes that are shared."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from orthrus.interfaces import KVCache

if TYPE_CHECKING:
    from torch import Tensor


@runtime_checkable
class StaticKVCache(KVCache, Protocol):
    """A KV cache whose buffers stay in place, so that a pass over it can be captured and replayed."""

    generation: int  # counts how often the buffers moved: what was captured before is void
    max_slots: int | None  # that a row may have; None: any number

    def reserve(self, layer: int, like: Tensor, heads: int, size: int) -> tuple[Tensor, Tensor, Tensor] | None:
        """Return a layer's buffers [B, heads, C, size] and the placed slots, to be written by a kernel, or None.

        None: the pass is not over all rows, and `update` must be used.
        """

    def read(self, layer: int) -> tuple[Tensor, Tensor]:
        """Return all keys and values of a layer [B, heads, slots, size], as `update` would."""


@runtime_checkable
class PlacesAdjacentRows(KVCache, Protocol):
    """A KV cache that gives views, not copies, of some of its rows, if these are one after the other."""

    def place_adjacent(self, slots: Tensor, extent: int, first: int) -> int:
        """Do what `place` does for a pass over the R rows from number `first` on, each once."""


@runtime_checkable
class LendsBuffers(KVCache, Protocol):
    """A KV cache whose keys and values lie in plain tensors, slot p of a row for its token at position p."""

    def lend(self, layers: int, like: Tensor, heads: int, size: int) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
        """Return the keys and the values of all layers, [B, heads, C, size] each, one shape and layout for all.

        A kernel may write the placed slots of the placed rows, as `update` would, and read all. C covers the extent
        that was placed. The tensors are lent for the pass that was placed. like: tells dtype and device.
        """


@runtime_checkable
class TracksRows(KVCache, Protocol):
    """A KV cache that is told where rows begin and end, and holds nothing of those that have ended."""

    def begin_rows(self, rows: Sequence[int], slots: Sequence[int | None]) -> None:
        """Hold nothing of these rows, which begin anew.

        slots: that each comes to, and what is written beyond them may be lost; None: nobody knows.
        """

    def end_rows(self, rows: Sequence[int]) -> None:
        """Hold nothing of these rows; what passes write for them, and get of them, does not matter until they begin."""


@runtime_checkable
class SharesPrefixes(TracksRows, Protocol):
    """A KV cache that keeps keys and values of texts, so that rows which begin with the same tokens can have them."""

    shares_prefixes: bool  # whether it does, as it was made

    def held_prefix(self, tokens: Sequence[int]) -> int:
        """Return how many leading tokens of a text are held, in whole blocks."""

    def adopt_prefix(self, row: int, tokens: Sequence[int]) -> int:
        """Let a row that has just begun hold a text's leading tokens as if passed over; return how many they are."""

    def offer_prefix(self, row: int, tokens: Sequence[int]) -> None:
        """Keep what a row's first slots hold, which is of these tokens, for others; called before the row ends."""

    def forget_prefixes(self) -> None:
        """Keep none of the texts so far, as other weights have other keys; rows keep the keys that they hold."""

    def write_states(self, states: Tensor) -> None:
        """Keep states [R, n, W] with the slots that the last pass wrote, W the same until prefixes are forgotten."""

    def read_states(self, row: int, count: int) -> Tensor:
        """Return the states [count, W] of a row's first slots, which it has adopted."""
