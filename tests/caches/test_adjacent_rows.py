"""Caches that place adjacent rows hold what the same rows hold when their numbers are given, and copy nothing."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from orthrus.optional import PlacesAdjacentRows
from orthrus_caches.dynamic import DynamicCache
from orthrus_caches.static import StaticCache

CACHES = [DynamicCache, lambda: StaticCache(slots=16)]


def write(cache: Any, extent: int, *place: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Return all keys and values after a pass over slots [R, n] that holds their numbers and the rows'."""
    slots, rows = place[0], len(place[0])
    if len(place) == 2 and isinstance(place[1], int):
        cache.place_adjacent(slots, extent, place[1])
    else:
        cache.place(slots, extent, *place[1:])
    states = slots.double() + 100 * torch.arange(rows)[:, None]
    states = states[:, None, :, None].expand(rows, 2, slots.shape[1], 3)
    keys, values = cache.update(states, -states, 0)
    return keys, values


@pytest.mark.parametrize("make", CACHES, ids=["dynamic", "static"])
@given(data=st.data())
def test_adjacent_rows_are_the_rows_of_their_numbers(make: Any, data: st.DataObject) -> None:
    rows = data.draw(st.integers(1, 5))
    views, copies = make(), make()
    assert isinstance(views, PlacesAdjacentRows)
    for cache in (views, copies):
        cache.start(rows, torch.device("cpu"))
    extent = 0
    for _ in range(data.draw(st.integers(1, 5))):
        first = data.draw(st.integers(0, rows - 1))
        count = data.draw(st.integers(1, rows - first))
        width = data.draw(st.integers(1, 9))
        slots = torch.randint(0, 20, (count, 1)) + torch.arange(width)
        extent = max(extent, int(slots.max()) + 1)
        numbers = torch.arange(first, first + count)
        seen, held = write(views, extent, slots, first), write(copies, extent, slots, numbers)
        for view, copy in zip(seen, held, strict=True):
            assert torch.equal(view, copy)
        again = write(views, extent, slots, first)
        assert again[0].data_ptr() == seen[0].data_ptr()  # of the cache itself
