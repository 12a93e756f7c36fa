"""What caches promise beyond the contract, which tests/kit/test_cache_machine.py holds them to: growth, addresses."""

from __future__ import annotations

import torch
from support.building import buffers_of

from orthrus_caches.dynamic import DynamicCache
from orthrus_caches.static import StaticCache

HEADS, SIZE = 2, 3


def test_growing_changes_nothing_and_bytes_are_counted() -> None:
    cache = DynamicCache()
    cache.start(1, torch.device("cpu"))
    states = torch.randn(1, HEADS, 1000, SIZE)
    for start in range(0, 1000, 100):
        part = states[:, :, start : start + 100]
        cache.place(torch.arange(start, start + 100)[None], start + 100)
        keys, values = cache.update(part, part, 0)
        assert torch.equal(keys, states[:, :, : start + 100]) and torch.equal(values, keys)
    assert cache.bytes_in_use() == 2 * HEADS * 1024 * SIZE * 4
    assert keys.data_ptr() == buffers_of(cache)[0][0].data_ptr()  # a view, not a copy


def test_static_buffers_stay_where_they_are_until_they_must_grow() -> None:
    cache = StaticCache(slots=16)
    cache.start(2, torch.device("cpu"))
    states = torch.randn(2, HEADS, 1, SIZE)

    def write(slot: int) -> tuple[int, int]:
        extent = cache.place(torch.tensor([[slot], [slot]]), slot + 1)
        return extent, cache.update(states, states, 0)[0].data_ptr()

    places = {write(slot) for slot in range(16)}
    assert len(places) == 1 and places.pop()[0] == 16
    generation = cache.generation
    assert write(16)[0] == 32 and cache.generation == generation + 1
    write_at = write(17)
    cache.start(2, torch.device("cpu"))  # as many rows: the same buffers, and what was captured over them
    assert write(17) == write_at and cache.generation == generation + 1
    cache.start(3, torch.device("cpu"))
    assert cache.generation == generation + 2
