"""Fixtures that several folders use, and how a process is set that runs tests."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch

from orthrus.bench import runner
from orthrus.testing.profiles import register_profiles
from orthrus_diffusion.training.metrics_log import Records
from support.program import InProcess
from support.site import Site

torch.set_num_threads(1)  # tiny models gain nothing from more, and on a busy machine threads wait for each other
os.environ.setdefault("OMP_NUM_THREADS", "1")  # of the programs that tests start
register_profiles()


def pytest_collection_finish() -> None:
    """Put what the imports made out of the garbage collector's sight: it would look at all of it again and again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _quick(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out what takes long beside tiny models: garbage once a point of a benchmark, plots once a stage.

    Setting objects aside a second time would also bring back those of `pytest_collection_finish`. A test of a plot asks
    for the fixture `plots`.
    """
    monkeypatch.setattr(runner, "frozen", nullcontext)
    if "plots" not in request.fixturenames:
        monkeypatch.setattr(Records, "plot", lambda self, notify: None)


@pytest.fixture
def plots() -> None:
    """Let training draw its plots."""


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """Give a folder for packages that count as installed, in this process and in the programs it starts."""
    packages = Site(tmp_path / "site")
    monkeypatch.syspath_prepend(str(packages.folder))
    monkeypatch.setenv("PYTHONPATH", str(packages.folder))
    yield packages
    packages.forget()


@pytest.fixture
def orthrus(capsys: pytest.CaptureFixture[str]) -> InProcess:
    """Give the program, run in this process: `orthrus("run", "--config", file)`."""
    return InProcess(capsys)
