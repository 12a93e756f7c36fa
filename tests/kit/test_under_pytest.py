"""The kit in somebody's own tests: skips, expected failures, the summary line; and without pytest."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

CONFORMANCE = """
import pytest
from support.bugs_of_verifiers import NothingAccepted
from orthrus.testing import verifier_checks

EXPECT = {
    "accepts_all_it_may": "it is stubborn",
    "long_drafts_are_kept_up_to_the_first_mistake": "it is stubborn, however long they are",
    "ties_go_to_the_first": "it is stubborn, also where logits are equal",
}


@pytest.mark.parametrize("check", verifier_checks(EXPECT), ids=str)
def test_conformance(check):
    check(lambda: NothingAccepted())


def test_something_else():
    pytest.skip("not a check")
"""


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-rs", *arguments, str(folder)]
    return subprocess.run(command, cwd=folder, capture_output=True, encoding="utf-8", timeout=120, check=False)


def write(folder: Path, text: str) -> None:
    tests = Path(__file__).parents[1]
    (folder / "conftest.py").write_text(
        f'import sys\nsys.path.insert(0, "{tests}")\npytest_plugins = ["orthrus.testing.pytest_summary"]\n',
        encoding="utf-8",
    )
    (folder / "test_conformance.py").write_text(text, encoding="utf-8")


@pytest.mark.thorough
def test_the_summary_line_says_what_ran(tmp_path: Path) -> None:
    write(tmp_path, CONFORMANCE)
    done = run(tmp_path)
    assert done.returncode == 0, done.stdout
    assert (
        "orthrus: 17 checks ran: 14 passed, 3 expected to fail; 14 did not apply: the verifier does not declare"
        " `coupled` (2); the verifier decodes greedily (7); the verifier does not declare `verifies_trees` (5)"
        in done.stdout
    )


@pytest.mark.thorough
def test_a_failure_is_shown_with_its_reproduction(tmp_path: Path) -> None:
    write(tmp_path, CONFORMANCE.replace("verifier_checks(EXPECT)", "verifier_checks()"))
    done = run(tmp_path)
    assert done.returncode == 1
    assert 'named_check("verifier", "accepts_all_it_may")(make, Scene(' in done.stdout
    assert "# make is test_conformance.<locals>.<lambda>, of test_conformance.py, line 15" in done.stdout
    assert "3 failed; 14 did not apply" in done.stdout


@pytest.mark.nightly
def test_nothing_is_said_where_no_check_ran(tmp_path: Path) -> None:
    write(tmp_path, "def test_one():\n    pass\n")
    assert "orthrus" not in run(tmp_path).stdout
