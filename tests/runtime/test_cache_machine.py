"""The dynamic cache against a list: after any history of passes and rollbacks, committed slots hold what they must."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from torch import Tensor

from orthrus import KVCache
from orthrus_caches.dynamic import DynamicCache
from orthrus_caches.static import StaticCache

LAYERS, HEADS, SIZE = 2, 2, 3


class CacheMachine(RuleBasedStateMachine):
    """Write passes of any width at each row's end, keep any part of them, and compare with a list of rows."""

    make_cache: Callable[[], KVCache] = DynamicCache

    def __init__(self) -> None:
        super().__init__()
        self.cache: KVCache = self.make_cache()
        self.committed: list[list[float]] = []
        self.written: list[list[float]] = []
        self.stamp = 0.0

    @initialize(rows=st.integers(1, 3))
    def start(self, rows: int) -> None:
        self.cache.start(rows, torch.device("cpu"))
        self.committed = [[] for _ in range(rows)]
        self.written = [[] for _ in range(rows)]
        self.seen: list[tuple[Tensor, Tensor]] = []

    @precondition(lambda self: self.committed)
    @rule(width=st.integers(1, 5))
    def pass_over(self, width: int) -> None:
        rows = len(self.committed)
        starts = torch.tensor([len(row) for row in self.committed])
        slots = starts[:, None] + torch.arange(width)
        extent = self.cache.place(slots, int(starts.max()) + width)
        stamps = self.stamp + 1 + torch.arange(rows * width, dtype=torch.float64).reshape(rows, width)
        self.stamp = float(stamps.max())
        states = stamps[:, None, :, None].expand(rows, HEADS, width, SIZE)
        assert extent >= int(slots.max()) + 1
        self.seen = [self.cache.update(states * (layer + 1), -states, layer) for layer in range(LAYERS)]
        self.written = [row + new for row, new in zip(self.committed, stamps.tolist(), strict=True)]

    @precondition(lambda self: self.committed)
    @rule(data=st.data())
    def keep(self, data: st.DataObject) -> None:
        lengths = [data.draw(st.integers(len(row), len(new))) if new else 0 for row, new in self._pairs()]
        self.cache.keep(torch.tensor(lengths))
        self.committed = [new[:length] if new else [] for (_, new), length in zip(self._pairs(), lengths, strict=True)]
        self.written = [list(row) for row in self.committed]

    @precondition(lambda self: self.committed and any(self.written))
    @rule(rows=st.integers(1, 3))
    def start_again(self, rows: int) -> None:
        self.start(rows)

    @invariant()
    def lengths_and_slots_are_those_of_the_list(self) -> None:
        if not self.committed:
            return
        assert self.cache.lengths.tolist() == [len(row) for row in self.committed]
        for layer, (keys, values) in enumerate(self.seen):
            for index, row in enumerate(self.committed):
                wanted = torch.tensor(row, dtype=torch.float64)[None, :, None].expand(HEADS, len(row), SIZE)
                assert torch.equal(keys[index, :, : len(row)], wanted * (layer + 1))
                assert torch.equal(values[index, :, : len(row)], -wanted)

    def _pairs(self) -> list[tuple[list[float], list[float]]]:
        return list(zip(self.committed, self.written, strict=True))


class ForgetfulCache(DynamicCache):
    """Lose a committed slot at rollback: the machine must see it."""

    def keep(self, lengths: Tensor) -> None:
        super().keep(lengths)
        for keys in self._keys:
            keys[:, :, 1:2] = 0.0


class ForgetfulMachine(CacheMachine):
    make_cache = ForgetfulCache


class StaticMachine(CacheMachine):
    make_cache = partial(StaticCache, slots=16)  # 16 slots: it has to grow


TestDynamicCache = CacheMachine.TestCase
TestStaticCache = StaticMachine.TestCase


def test_the_machine_sees_a_cache_that_forgets() -> None:
    quick = settings(max_examples=100, phases=[Phase.generate], deadline=None)  # finding is enough, no shrinking
    with pytest.raises(AssertionError):
        run_state_machine_as_test(ForgetfulMachine, settings=quick)


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
    assert keys.data_ptr() == cache._keys[0].data_ptr()  # a view, not a copy


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
    place = write(17)
    cache.start(2, torch.device("cpu"))  # as many rows: the same buffers, and what was captured over them
    assert write(17) == place and cache.generation == generation + 1
    cache.start(3, torch.device("cpu"))
    assert cache.generation == generation + 2
