"""Profiles of Hypothesis, and the fixtures that several folders use; everything else is in tests/support."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, settings
from support.program import InProcess
from support.site import Site

torch.set_num_threads(1)  # tiny models gain nothing from more, and on a busy machine threads wait for each other
SLOW = [HealthCheck.too_slow]  # a model's first pass is
settings.register_profile("ci", derandomize=True, database=None, deadline=None, suppress_health_check=SLOW)
settings.register_profile("dev", deadline=None, suppress_health_check=SLOW)  # other examples every time
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


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
