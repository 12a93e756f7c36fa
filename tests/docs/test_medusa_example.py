"""Medusa heads by a third party: built, installed beside our wheel, tested and trained there as the guide says."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from docs_following import commands, compare
from docs_pages import ROOT, page
from support.wheels import Environment, build_wheel

EXAMPLE = ROOT / "docs" / "examples" / "orthrus-medusa"
GUIDE = page("docs/guide/heads-of-your-own.md")
MOST_LINES = 60  # of the drafter

pytestmark = pytest.mark.thorough  # wheels, an environment, and programs in it


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    folder = tmp_path_factory.mktemp("medusa")
    return Environment(folder / "environment", *(build_wheel(project, folder) for project in (ROOT, EXAMPLE)))


def test_its_tests_pass_there(environment: Environment, tmp_path: Path) -> None:
    shutil.copytree(EXAMPLE / "tests", tmp_path / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copyfile(EXAMPLE / "pyproject.toml", tmp_path / "pyproject.toml")
    done = environment.run("-m", "pytest", "-p", "no:cacheprovider", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    [(ran, passed)] = re.findall(r"^orthrus: (\d+) checks ran: (\d+) passed", done.stdout, flags=re.MULTILINE)
    assert int(ran) == int(passed) > 25


def test_what_is_trained_is_accepted_as_the_guide_says(environment: Environment, tmp_path: Path) -> None:
    for folder in ("tests/data/tiny-orthrus-qwen3", "docs/examples/orthrus-medusa"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    [(command, expected)] = [each for block in GUIDE.of("console", "not run") for each in commands(block)]
    done = environment.run(*command.removeprefix("python ").split(), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert compare(GUIDE, command, expected, done.stdout) == []


def test_the_drafter_is_short() -> None:
    lines = (EXAMPLE / "orthrus_medusa" / "drafter.py").read_text(encoding="utf-8").splitlines()
    assert 0 < len(lines) <= MOST_LINES
