"""Abilities of parts that hold rows: to move and to free them, bounds of what they hold, prefills in chunks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from torch import Tensor

    from orthrus.batch.context import Context


@runtime_checkable
class MovesRows(Protocol):
    """A target, KV cache or drafter whose rows can be added, moved and taken away while requests are decoded."""

    moves_rows: bool  # whether it can, as it was made

    def move_rows(self, sources: Sequence[int]) -> None:
        """Hold as many rows as there are sources: each has what the row of that number had, -1 an empty row.

        A row that is not its own source has a number that is no other row's source.
        """


@runtime_checkable
class FreesRows(Protocol):
    """A target that gives back what it holds of rows as soon as they end, and not only when others take their place."""

    def free_rows(self, context: Context, rows: Sequence[int]) -> None:
        """Hold nothing of these rows, which have ended or were never begun.

        Passes over all rows go on; what they return for these is not read until they are prefilled.
        """


@runtime_checkable
class BoundsRows(Protocol):
    """A target or KV cache whose memory bounds what rows hold together, so that requests may have to wait."""

    def refusal(self, slots: Sequence[int]) -> str | None:
        """Return why rows that come to so many slots each cannot go on together, and what to set; None: they can.

        Fewer rows, or shorter ones, are never refused where these are not.
        """


@runtime_checkable
class BoundsSlots(Protocol):
    """A target or KV cache whose rows may have so many slots, and no more."""

    max_slots: int | None  # None: any number


@runtime_checkable
class RestoresPrefixes(Protocol):
    """A target that passes over no leading tokens of prompts whose keys its cache holds, and hands their taps on."""

    restores_prefixes: bool  # whether it does, as it was made

    def restored(self, row: int) -> int:
        """Return how many leading tokens of a row's prompt its last prefill did not pass over."""


@runtime_checkable
class PrefillsInChunks(Protocol):
    """A target whose prefill may be interrupted between two chunks, so that other rows go on meanwhile."""

    def prefill_chunks(self, context: Context, rows: Sequence[int]) -> Iterator[Tensor | None]:
        """Yield None after each chunk of the rows' prompts but the last, which yields what `prefill` returns.

        Passes over all rows may come between two of them; those of the rows that are not through are not read.
        """
