"""The Makefile names folders that exist, and marks that there are: a move must not leave a target behind."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

from support.program import ROOT
from support.thorough import EVERY_RUN, PROFILE

from orthrus.testing.profiles import VARIABLE

MENTIONED = re.compile(r"(?:tests|docs|configs)/[\w./-]+")


def missing_paths(makefile: str, root: Path) -> list[str]:
    return [path for path in MENTIONED.findall(makefile) if not (root / path).exists()]


def test_every_path_of_the_makefile_exists() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert MENTIONED.findall(makefile)
    assert missing_paths(makefile, ROOT) == []


def test_a_path_that_is_not_there_is_noticed() -> None:
    assert missing_paths("\tpytest tests/gone tests/lossless\n", ROOT) == ["tests/gone"]


def unrun_marks(settings: dict[str, Any], makefile: str) -> list[str]:
    """Return the marks that no command of the Makefile runs, though every run leaves them out."""
    names = [line.partition(":")[0] for line in settings["markers"]]
    return [name for name in names if f"not {name}" in settings["addopts"] and f"-m {name}" not in makefile]


def pytest_settings() -> dict[str, Any]:
    settings: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    return dict(settings["tool"]["pytest"]["ini_options"])


def test_what_every_run_leaves_out_has_a_command() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert unrun_marks(pytest_settings(), makefile) == []
    assert unrun_marks(pytest_settings(), makefile.replace("-m nightly", "")) == ["nightly"]


def test_the_profile_nightly_knows_the_marks_of_every_run() -> None:
    assert pytest_settings()["addopts"].endswith(f"-m '{EVERY_RUN}'")


def test_the_profile_is_named_by_one_variable() -> None:
    assert PROFILE == VARIABLE


def test_ci_runs_all_but_the_nightly_cases() -> None:
    commands = re.findall(r"^make (\w+)$", (ROOT / ".ci" / "run").read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert commands == ["test", "thorough", "oldest", "site"]
