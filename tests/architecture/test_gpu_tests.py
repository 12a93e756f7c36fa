"""The tests of GPUs are left out where there is none and nobody names them, and the run says so."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from support.gpu_tests import FOLDER, KEY, SAID, GpuTests
from support.program import ROOT


def run_of(arguments: list[str]) -> Any:
    return SimpleNamespace(args=arguments, invocation_params=SimpleNamespace(dir=ROOT))


class Terminal:
    """Hold the lines that are written to it."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def write_line(self, line: str) -> None:
        self.lines.append(line)


def said(plugin: GpuTests) -> list[str]:
    terminal: Any = Terminal()
    plugin.pytest_terminal_summary(terminal)
    return terminal.lines


@pytest.mark.parametrize(
    ("arguments", "device", "left_out"),
    [
        (["tests"], False, True),
        (["."], False, True),
        (["tests"], True, False),
        (["tests/config"], False, False),
        (["tests/gpu"], False, False),
        (["tests/gpu/test_cuda.py::test_it"], False, False),
        (["tests", "tests/gpu/test_cuda.py"], False, False),
    ],
)
def test_the_folder_is_left_out_and_said_to_be(
    arguments: list[str], device: bool, left_out: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: device)
    plugin = GpuTests()
    assert plugin.pytest_ignore_collect(FOLDER, run_of(arguments)) is (True if left_out else None)
    assert plugin.pytest_ignore_collect(Path(FOLDER.parent, "config"), run_of(arguments)) is None
    assert said(plugin) == [SAID] * left_out


@pytest.mark.parametrize("left_out", [False, True])
def test_a_process_that_hands_out_tests_says_what_those_say_that_run_them(left_out: bool) -> None:
    worker, others = GpuTests(), GpuTests()
    worker.left_out = left_out
    session: Any = SimpleNamespace(config=SimpleNamespace(workeroutput={}))
    worker.pytest_sessionfinish(session)
    assert session.config.workeroutput == {KEY: left_out}
    for node in (SimpleNamespace(workeroutput=session.config.workeroutput), SimpleNamespace()):  # one that crashed
        others.pytest_testnodedown(node)
    assert said(others) == [SAID] * left_out


def test_there_are_tests_of_gpus() -> None:
    assert len(list(FOLDER.glob("test_*_cuda.py"))) > 20
