"""Drafts as the host sees them, for those who count or show them. B: rows, n: width of a draft."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class SeenDrafts:
    """The length of each row's draft, if they are counted, and its tokens, if any row shows its own."""

    lengths: tuple[int, ...] | None = None
    tokens: tuple[tuple[int, ...], ...] | None = None


def drafts_seen(seen: Sequence[list[int]], width: int, *, shown: bool, counted: bool) -> SeenDrafts:
    """Take the drafts off the end of what was read of each row: n tokens, if they are shown, and their number.

    Of an empty draft, n = 0, nothing was read.
    """
    if not (shown or counted):
        return SeenDrafts()
    lengths = tuple(values.pop() if width else 0 for values in seen)
    if not shown:
        return SeenDrafts(lengths)
    return SeenDrafts(lengths if counted else None, tuple(map(_tokens, seen, [width] * len(seen), lengths)))


def _tokens(values: list[int], width: int, length: int) -> tuple[int, ...]:
    """Take the last n values off a row's; return as many of them as were proposed."""
    first = len(values) - width
    tokens = tuple(values[first : first + length])
    del values[first:]
    return tokens
