"""The cache `offloaded` without a GPU: bytes to the last one, memory that does not suffice; with one: tests/gpu."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from orthrus import InputError
from orthrus_caches.offloaded import OffloadedCache

CPU = torch.device("cpu")


def written(cache: Any, slots: int, rows: int = 2) -> None:
    states = torch.randn(rows, 2, slots, 3)
    cache.place(torch.arange(slots).repeat(rows, 1), slots)
    cache.update(states, states[..., :2], 0)


def test_bytes_are_counted_to_the_last_one() -> None:
    cache = OffloadedCache()
    cache.start(2, CPU)
    written(cache, 7)
    slot = 2 * (3 + 2) * 4  # heads, sizes of keys and of values, bytes
    assert cache.bytes_in_use() == 2 * 256 * slot and cache.bytes_on_device == 0
    written(cache, 257)
    assert cache.bytes_in_use() == 2 * 512 * slot
    cache.move_rows([1, -1, -1])
    assert cache.bytes_in_use() == 3 * 512 * slot and cache.lengths.tolist() == [0, 0, 0]
    cache.start(1, CPU)
    assert cache.bytes_in_use() == 0


def test_on_a_cpu_a_pass_reads_the_buffers_themselves() -> None:
    cache = OffloadedCache()
    cache.start(1, CPU)
    places = set()
    for slot in range(3):
        states = torch.randn(1, 2, 1, 4)
        cache.place(torch.tensor([[slot]]), slot + 1)
        places.add(cache.update(states, states, 0)[0].data_ptr())
    assert len(places) == 1


def test_memory_that_does_not_suffice_is_one_sentence() -> None:
    cache = OffloadedCache()
    cache.start(1, CPU)
    states = torch.empty(0).new_zeros(1).expand(1, 2**20, 1, 2**20)
    cache.place(torch.tensor([[2**30]]), 2**30 + 1)
    with pytest.raises(InputError, match=r"^the host's memory does not hold a cache of 1 rows with 1073742080 slots"):
        cache.update(states, states, 0)
