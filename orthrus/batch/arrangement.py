"""The arrangement of rows: as many as go on or are about to, padded to 1, 2, 4, 8, ... for few shapes of passes."""

from __future__ import annotations

from collections.abc import Sequence


def row_count(wanted: int, capacity: int) -> int:
    """Return how many rows passes are over so that `wanted` requests, 1 at least, fit: a power of two, or all."""
    return min(capacity, 1 << (max(1, wanted) - 1).bit_length())


def arranged(live: Sequence[bool], count: int) -> list[int]:
    """Return for each of `count` rows which row it was so far; -1: none that goes on.

    Rows that go on stay where they are, but for those beyond the last, which move to the first that are free: what a
    row's state is copied from is never written. live: whether each row so far goes on; `count` hold all that do.
    """
    sources = [row if row < len(live) and live[row] else -1 for row in range(count)]
    beyond = [row for row in range(count, len(live)) if live[row]]
    free = [row for row in range(count) if sources[row] < 0]
    for target, source in zip(free, beyond, strict=False):
        sources[target] = source
    return sources
