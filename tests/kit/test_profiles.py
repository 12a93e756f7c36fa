"""One call in a conftest gives profiles; a variable or Hypothesis' own flag chooses; without Hypothesis, a sentence."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from support.thorough import EVERY_RUN, marks_of, nightly_but, thorough_but

from orthrus import InputError
from orthrus.testing.profiles import fewer, register_profiles

CONFTEST = "from orthrus.testing.profiles import register_profiles\nregister_profiles()\n"
SHOWS = "from hypothesis import settings\ndef test_it():\n    print('examples', settings().max_examples)\n"
RANDOM = "from orthrus.testing.profiles import PROFILES as p\nprint([p[name].derandomize for name in sorted(p)])\n"


@pytest.fixture(autouse=True)
def profile_as_before() -> Iterator[None]:
    before = settings.get_current_profile_name()
    yield
    settings.load_profile(before)


@pytest.mark.parametrize(
    ("chosen", "wanted"),
    [("", (100, 10, True)), ("ci", (100, 10, True)), ("dev", (30, 3, False)), ("nightly", (2000, 200, False))],
)
def test_a_profile_is_chosen(chosen: str, wanted: tuple[int, int, bool], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORTHRUS_PROFILE", chosen)
    register_profiles()
    chosen_settings = settings()
    assert (chosen_settings.max_examples, fewer(10).max_examples, chosen_settings.derandomize) == wanted
    assert fewer(10, stateful_step_count=7).stateful_step_count == 7
    assert chosen_settings.deadline is None


@pytest.mark.parametrize("variable", nightly_but([], ["CI", "GITHUB_ACTIONS"], thorough=["CI"]))
def test_a_profile_is_the_same_on_a_ci_machine(variable: str) -> None:
    command = [sys.executable, "-c", RANDOM]
    done = subprocess.run(
        command, env={**os.environ, variable: "true"}, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout == "[True, False, False]\n", done.stderr


@pytest.mark.parametrize(
    ("profile", "asked", "wanted"),
    [
        (None, EVERY_RUN, EVERY_RUN),
        ("ci", EVERY_RUN, EVERY_RUN),
        ("nightly", EVERY_RUN, "not independent and not clients and not browser and not ray"),
        ("nightly", "not thorough or model", "not thorough or model"),
    ],
)
def test_only_nightly_has_the_cases_of_all_runs(profile: str | None, asked: str, wanted: str) -> None:
    assert marks_of(profile, asked) == wanted


@pytest.mark.nightly
def test_a_run_with_the_profile_nightly_has_them() -> None:
    command = [sys.executable, "-m", "pytest", "--collect-only", "-p", "no:cacheprovider", __file__]
    environment = {**os.environ, "ORTHRUS_PROFILE": "nightly"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=True)
    assert "test_a_run_with_the_profile_nightly_has_them" in done.stdout


def marks(values: list[Any]) -> list[list[str]]:
    return [[mark.name for mark in getattr(value, "marks", ())] for value in values]


def test_values_are_marked_by_the_run_that_has_them() -> None:
    assert thorough_but(["a"], ["a"]) == ["a"]
    assert marks(thorough_but([("a", 1)], [("a", 1), ("b", 2)])) == [[], ["thorough"]]
    assert marks(nightly_but(["a"], "abc", thorough="ac")) == [[], ["nightly"], ["thorough"]]


def test_what_is_kept_for_every_run_must_be_there() -> None:
    for kept, thorough in ((["c"], []), ([], ["c"])):
        with pytest.raises(ValueError, match=r"\['c'\] are no values"):
            nightly_but(kept, ["a", "b"], thorough)


def test_another_default_may_be_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ORTHRUS_PROFILE", raising=False)
    register_profiles("dev")
    assert settings.get_current_profile_name() == "dev"


def test_an_unknown_profile_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORTHRUS_PROFILE", "nigthly")
    said = "ORTHRUS_PROFILE: unknown profile 'nigthly' (did you mean 'nightly'?); known: ci, dev, nightly"
    with pytest.raises(InputError, match=f"^{re.escape(said)}$"):
        register_profiles()


@pytest.mark.thorough
def test_the_flag_of_hypothesis_comes_before_the_variable(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_it.py").write_text(SHOWS)
    command = [sys.executable, "-m", "pytest", "-s", "-p", "no:cacheprovider", "--hypothesis-profile=dev"]
    environment = {**os.environ, "ORTHRUS_PROFILE": "nightly"}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert "examples 30\n" in done.stdout, done.stdout + done.stderr


WITHOUT = """
import importlib, sys
sys.modules["hypothesis"] = None
import orthrus.testing
for name in ("strategies", "profiles", "cache_machine", "rollback_machine"):
    try:
        importlib.import_module(f"orthrus.testing.{name}")
    except orthrus.InputError as error:
        print(error)
"""


@pytest.mark.thorough
def test_without_hypothesis_there_is_a_sentence() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT], capture_output=True, text=True, timeout=60, check=False)
    said = "strategies, profiles and state machines need hypothesis: pip install 'orthrus-decoding[testing]'"
    assert done.stdout.splitlines() == [said] * 4, done.stderr
