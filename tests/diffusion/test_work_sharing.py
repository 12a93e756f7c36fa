"""Several processes, here threads, make each file of a stage once; the first one waits for the others to plot."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from orthrus_diffusion.training.metrics_log import Records
from orthrus_diffusion.training.process_group import Workers
from orthrus_diffusion.training.work_sharing import begin_turns, end_turns

SLOW = 0.2  # seconds that one is behind the other


@dataclass(frozen=True)
class Thread(Workers):
    """Be one of several threads that wait for each other."""

    gate: threading.Barrier = field(default_factory=lambda: threading.Barrier(1))

    def wait(self) -> None:
        self.gate.wait(timeout=20)


def at_once(count: int, work: Callable[[Any], Any]) -> list[Any]:
    """Return what the work of each of so many threads returns, given a run."""
    gate = threading.Barrier(count)
    runs = [SimpleNamespace(workers=Thread(rank, count, gate), notify=print) for rank in range(count)]
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(work, runs))


def test_every_file_is_made_once_however_late_one_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = [tmp_path / str(index) for index in range(7)]
    files[2].touch()
    late: list[int] = []

    def exists(self: Path) -> bool:
        if threading.get_ident() in late:
            time.sleep(SLOW / len(files))
        return own(self)

    def work(run: Any) -> list[int]:
        if run.workers.rank == 1:
            late.append(threading.get_ident())
        mine = begin_turns(run, Records(tmp_path, "x"), files)
        for index in mine:
            files[index].touch()
        return mine

    own = Path.exists
    monkeypatch.setattr(Path, "exists", exists)
    assert at_once(3, work) == [[0, 4], [1, 5], [3, 6]]


def test_the_plot_waits_for_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plotted: list[list[int]] = []

    def plot(self: Records, notify: Any) -> None:
        plotted.append([record["x"] for record in self.read()])

    def work(run: Any) -> None:
        records = Records(tmp_path, "x")
        for index in begin_turns(run, records, [tmp_path / "0", tmp_path / "1"]):
            time.sleep(SLOW * index)
            records.write(x=index)
        end_turns(run, records)

    monkeypatch.setattr(Records, "plot", plot)
    at_once(2, work)
    assert plotted == [[0, 1]]
