"""Whose memory is whose: a device of the test, on which parts take bytes when they are made and when they run."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import pytest
import torch
from support.bench import BenchPlugin, all_runs, make_bench

from orthrus import Chance, Context, Draft, hookimpl
from orthrus.bench.bandwidth import copy_bandwidth
from orthrus.bench.memory_ledger import Ledger, frozen
from orthrus_drafters.none import NoDrafter


class Device:
    """Bytes that are taken and given back."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.bytes = 0
        monkeypatch.setattr("orthrus.bench.memory_ledger.allocated", lambda: self.bytes)


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Device:
    return Device(monkeypatch)


def test_owners_hold_what_stayed_of_what_was_done_for_them(device: Device) -> None:
    ledger = Ledger()
    for owner, grown in (("a", 8), ("b", 16), ("a", 32), ("b", -4)):
        with ledger.charge(owner):
            device.bytes += grown
    assert (ledger.others(), ledger.others("a"), ledger.others("b"), ledger.others("a", "b")) == (52, 12, 40, 0)
    ledger.forget(["a", "nobody"])
    assert ledger.others() == 12


def test_an_owner_that_failed_holds_what_it_left_behind(device: Device) -> None:
    ledger = Ledger()
    with pytest.raises(MemoryError), ledger.charge("a"):
        device.bytes += 7
        raise MemoryError
    assert ledger.others("b") == 7


class HeavyPlugin(BenchPlugin):
    """Targets of 1,000 bytes, drafters of 100 that grow by 10 in their first run, a baseline that keeps 1."""

    def __init__(self, device: Device) -> None:
        super().__init__(other=self._keep)
        self._device = device

    def _keep(self, call: int) -> int:
        self._device.bytes += call == 1
        return 3

    @hookimpl
    def register_targets(self, register: Any) -> None:
        def counted(name: str, factory: Any, options: Any = None) -> None:
            def make(options: Any, parts: Any) -> Any:
                self._device.bytes += 1000
                return factory(options, parts)

            register(name, make, options)

        super().register_targets(counted)

    @hookimpl
    def register_drafters(self, register: Any) -> None:
        def make(options: Any, parts: Any) -> Any:
            self._device.bytes += 100
            return Growing(self._device)

        register("heavy", make)


class Growing(NoDrafter):
    def __init__(self, device: Device) -> None:
        self._device, self._grown = device, False

    def propose(self, context: Context, chance: Chance) -> Draft:
        self._device.bytes += 0 if self._grown else 10
        self._grown = True
        return super().propose(context, chance)


def test_a_subject_has_its_own_memory_and_its_targets_and_nobody_elses(device: Device, tmp_path: Path) -> None:
    plugin = HeavyPlugin(device)
    variants = ["heavy: drafter.name=heavy", "static: cache.name=static"]
    bench = make_bench(tmp_path, plugin, variants=variants, baselines=["other"], rounds=1)
    assert all(run.error is None for run in all_runs(bench))
    assert device.bytes == 1000 + 1 + 100 + 10 + 1000
    pool = bench.subjects
    mine = {label: device.bytes - pool.bytes_of_others(subject) for label, subject in pool.built.items()}
    # What runs leave behind counts for all decoders of the same target, for they use it; never for a baseline.
    assert mine == {"other": 1001, "config": 1010, "heavy": 1110, "static": 1000}


def test_memory_of_a_host_is_not_told(tmp_path: Path) -> None:
    [run] = all_runs(make_bench(tmp_path, BenchPlugin(), rounds=1))
    assert run.peak_memory_bytes is None


def test_objects_that_were_set_aside_are_back_afterwards() -> None:
    before = gc.get_freeze_count()
    with pytest.raises(ZeroDivisionError), frozen():
        assert gc.get_freeze_count() > before
        _ = 1 / 0
    assert gc.get_freeze_count() == 0
    gc.freeze()  # as for all tests


def test_copying_is_measured_and_its_absence_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orthrus.bench.bandwidth.CPU_BYTES", 2**20)
    seconds = iter([9.0, *[0.5] * 3, 0.25, *[1.0] * 3])  # the first is not counted; the median is 0.5
    monkeypatch.setattr("orthrus.bench.bandwidth.copy_seconds", lambda source, target: next(seconds))
    assert copy_bandwidth(torch.device("cpu")) == 2 * 2**20 / 0.5
    monkeypatch.undo()
    monkeypatch.setattr("orthrus.bench.bandwidth.CPU_BYTES", 2**60)
    assert copy_bandwidth(torch.device("cpu")) is None


def test_copying_moves_the_bytes_that_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orthrus.bench.bandwidth.CPU_BYTES", 2**24)
    bandwidth = copy_bandwidth(torch.device("cpu"))
    assert bandwidth is not None and 1e8 < bandwidth < 1e13
