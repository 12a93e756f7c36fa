"""Runs the program `orthrus`: in this process, which is quick, or as a program of its own, which is the truth."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from orthrus.cli import main

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "configs"
TABLE = CONFIGS / "recipes" / "table-prompt-lookup.yaml"
# A shell starts what it puts into the background with Ctrl-C ignored, and children inherit that: undo it.
LISTEN = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
PROGRAM = [sys.executable, "-c", f"{LISTEN}; from orthrus.cli import main; main()"]
INSTALLED = [str(Path(sys.executable).parent / "orthrus")]
ERROR = "orthrus: error: "


@dataclass(frozen=True)
class Outcome:
    """What a run of the program left: exit code, standard output, standard error."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        return json.loads(self.out)

    def error(self) -> str:
        """Return the one sentence of a run that was refused; assert that there is nothing but it."""
        assert self.code == 2, self
        assert self.out == "", self
        assert self.err.startswith(ERROR) and self.err.count("\n") == 1 and self.err.endswith("\n"), self
        assert "Traceback" not in self.err
        return self.err.removeprefix(ERROR).strip()


def outcome(*arguments: object, program: Sequence[str] = PROGRAM) -> Outcome:
    """Run the program to its end in a process of its own."""
    done = subprocess.run(
        [*program, *map(str, arguments)], capture_output=True, encoding="utf-8", timeout=120, check=False
    )
    return Outcome(done.returncode, done.stdout, done.stderr)


def called(*words: str) -> int:
    """Run the program in this process; return its exit code."""
    with mock.patch.object(sys, "argv", list(words)), warnings.catch_warnings(), pytest.raises(SystemExit) as left:
        warnings.simplefilter("default", UserWarning)  # the program shows them; every other stays an error here
        main()
    code = left.value.code
    assert isinstance(code, int)
    return code


class InProcess:
    """Run the program in this process, many times over."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *arguments: object) -> Outcome:
        self._capsys.readouterr()
        code = called("orthrus", *map(str, arguments))
        captured = self._capsys.readouterr()
        return Outcome(code, captured.out, captured.err)
