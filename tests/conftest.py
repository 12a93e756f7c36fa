"""Profiles of Hypothesis, and the fixtures that several folders use; everything else is in tests/support."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from support.program import InProcess
from support.site import Site

from orthrus.testing.profiles import register_profiles

torch.set_num_threads(1)  # tiny models gain nothing from more, and on a busy machine threads wait for each other
os.environ.setdefault("OMP_NUM_THREADS", "1")  # of the programs that tests start
register_profiles()


def pytest_collection_finish() -> None:
    """Put what the imports made out of the garbage collector's sight: it would look at all of it again and again."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """Give a folder for packages that count as installed, in this process and in the programs it starts."""
    made = Site(tmp_path / "site")
    monkeypatch.syspath_prepend(str(made.folder))
    monkeypatch.setenv("PYTHONPATH", str(made.folder))
    yield made
    made.forget()


@pytest.fixture
def orthrus(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> InProcess:
    """Give the program, run in this process: `orthrus("run", "--config", file)`."""
    return InProcess(capsys, monkeypatch)
