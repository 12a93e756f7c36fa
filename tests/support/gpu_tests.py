"""Leaves the tests of GPUs out of a run where there is no CUDA device, and says so at its end.

They would all be skipped; importing and skipping them takes seconds. A run that is asked for them by path has them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parents[1] / "gpu"
SAID = "tests/gpu was left out: there is no CUDA device. `python -m pytest tests/gpu` lists what it would run."
KEY = "gpu_tests_left_out"


class GpuTests:
    """A plugin of pytest, in a process that collects tests and in one that has others do so."""

    def __init__(self) -> None:
        self.left_out = False

    def pytest_ignore_collect(self, collection_path: Path, config: pytest.Config) -> bool | None:
        """Leave the folder out of a run of folders above it; None: it is for others to decide."""
        if collection_path != FOLDER or not _is_run_with_others(config) or _has_device():
            return None
        self.left_out = True
        return True

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Tell the process that hands out tests."""
        if hasattr(session.config, "workeroutput"):
            session.config.workeroutput[KEY] = self.left_out

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Take what a process says that has run tests."""
        self.left_out |= bool(getattr(node, "workeroutput", {}).get(KEY))

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Say it."""
        if self.left_out:
            terminalreporter.write_line(SAID)


def _is_run_with_others(config: pytest.Config) -> bool:
    """Return whether the folder is in one that the run is asked for, and nothing in it is by itself."""
    named = [(config.invocation_params.dir / argument.split("::")[0]).resolve() for argument in config.args]
    return any(path in FOLDER.parents for path in named) and not any(path.is_relative_to(FOLDER) for path in named)


def _has_device() -> bool:
    import torch  # takes seconds, which a process that hands out tests has not

    return torch.cuda.is_available()
