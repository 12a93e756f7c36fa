"""The example of a third party is one: built, installed beside our wheel, and tested there with what we publish."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from support.program import ROOT
from support.wheels import Environment, build_wheel

EXAMPLE = ROOT / "docs" / "examples" / "orthrus-repeat-drafter"
SHOW = "import orthrus, orthrus_repeat; print(orthrus.__file__, orthrus_repeat.__file__, sep='\\n')"
PYTEST = ("-m", "pytest", "-p", "no:cacheprovider")
ORTHRUS = "from orthrus.cli import main; main()"

pytestmark = pytest.mark.thorough  # wheels, an environment, and programs in it


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    folder = tmp_path_factory.mktemp("third-party")
    wheels = [build_wheel(project, folder) for project in (ROOT, EXAMPLE)]
    return Environment(folder / "environment", *wheels)


@pytest.fixture
def tests(tmp_path: Path) -> Path:
    """Give a folder with the example's tests, and without its code."""
    shutil.copytree(EXAMPLE / "tests", tmp_path / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copyfile(EXAMPLE / "pyproject.toml", tmp_path / "pyproject.toml")
    return tmp_path


def test_both_come_from_their_wheels(environment: Environment, tests: Path) -> None:
    printed = environment.run("-c", SHOW, cwd=tests).stdout.split()
    assert [Path(file).relative_to(environment.packages).parts[0] for file in printed] == ["orthrus", "orthrus_repeat"]


def test_it_is_listed(environment: Environment, tests: Path) -> None:
    listed = environment.run("-c", ORTHRUS, "plugins", "--strict", cwd=tests)
    assert listed.returncode == 0, listed.stderr
    assert re.search(r"^drafter +repeat +orthrus_repeat 0\.1\.0$", listed.stdout, flags=re.MULTILINE)


def test_its_tests_pass_there(environment: Environment, tests: Path) -> None:
    done = environment.run(*PYTEST, cwd=tests)
    assert done.returncode == 0, done.stdout + done.stderr
    [ran, passed] = re.findall(
        r"^orthrus: (\d+) checks ran: (\d+) passed; \d+ did not apply: .*$", done.stdout, flags=re.MULTILINE
    )[0]
    assert int(ran) == int(passed) > 10


def test_its_tests_fail_if_it_breaks_a_rule(environment: Environment, tests: Path) -> None:
    code = environment.packages / "orthrus_repeat" / "drafter.py"
    honest = code.read_text(encoding="utf-8")
    assert "min(self._length, row.room)" in honest
    try:
        code.write_text(honest.replace("min(self._length, row.room)", "self._length"), encoding="utf-8")
        done = environment.run(*PYTEST, "-k", "room", cwd=tests)
    finally:
        code.write_text(honest, encoding="utf-8")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "drafter check 'draft_fits_the_room' failed" in done.stdout
