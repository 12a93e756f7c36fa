"""One call in a conftest gives profiles; a variable or Hypothesis' own flag chooses; without Hypothesis, a sentence."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

CONFTEST = "from orthrus.testing.profiles import register_profiles\nregister_profiles()\n"
SHOWS = """
from hypothesis import settings
from orthrus.testing.profiles import fewer
def test_it():
    found = settings()
    print("examples", found.max_examples, fewer(10).max_examples, found.derandomize, found.deadline)
"""


def run(folder: Path, *arguments: str, **variables: str) -> str:
    (folder / "conftest.py").write_text(CONFTEST)
    (folder / "test_it.py").write_text(SHOWS)
    command = [sys.executable, "-m", "pytest", "-q", "-s", "-p", "no:cacheprovider", *arguments]
    environment = {**os.environ, "ORTHRUS_PROFILE": "", **variables}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False)
    return done.stdout + done.stderr


@pytest.mark.parametrize(
    ("arguments", "variables", "wanted"),
    [
        ([], {}, "examples 100 10 True None"),
        ([], {"ORTHRUS_PROFILE": "dev"}, "examples 30 3 False None"),
        ([], {"ORTHRUS_PROFILE": "nightly"}, "examples 2000 200 False None"),
        (["--hypothesis-profile=dev"], {"ORTHRUS_PROFILE": "nightly"}, "examples 30 3 False None"),
    ],
)
def test_a_profile_is_chosen(arguments: list[str], variables: dict[str, str], wanted: str, tmp_path: Path) -> None:
    assert wanted in run(tmp_path, *arguments, **variables)


def test_an_unknown_profile_is_refused(tmp_path: Path) -> None:
    said = "ORTHRUS_PROFILE: unknown profile 'nigthly' (did you mean 'nightly'?); known: ci, dev, nightly"
    assert said in run(tmp_path, ORTHRUS_PROFILE="nigthly")


@pytest.mark.parametrize("module", ["strategies", "profiles", "cache_machine", "rollback_machine"])
def test_without_hypothesis_there_is_a_sentence(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    code = f"""
import sys
sys.modules["hypothesis"] = None
import orthrus.testing
import orthrus.testing.{module}
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    said = (
        "InputError: strategies, profiles and state machines need hypothesis: pip install 'orthrus-decoding[testing]'"
    )
    assert re.search(f"{re.escape(said)}$", done.stderr.strip())
