"""The kit rejects every seeded bug by the check that names it; docs/results/bugs-the-kit-finds.md is what it then says.

Every run has a bug for each check that is quick, the thorough part all bugs. What else does not pass with a bug takes
seven times as long to find out: of every twentieth in the thorough part, of the others by night.
"""

from __future__ import annotations

import runpy
from typing import Any

import pytest
from support.bug import Bug
from support.bugs import EVERY_BUG
from support.program import ROOT
from support.thorough import nightly_but, thorough_but

from orthrus.testing import named_check

SLOW = {  # seconds each, for whole distributions are visited
    "claims softmax probabilities from its second draft on",
    "draws the token after a rejection from p: no residual",
    "accepts nothing above temperature 0",
    "tries each sibling with the target's whole distribution",
    "the loop's penalties see a tree's siblings",
}
QUICK = [bug for bug in EVERY_BUG if bug.what not in SLOW]
ONE_A_CHECK = list({(bug.kind, bug.check): bug for bug in reversed(QUICK)}.values())


@pytest.fixture(scope="module")
def program() -> dict[str, Any]:
    return runpy.run_path(str(ROOT / "docs" / "tools" / "bug_table.py"))


@pytest.fixture(scope="module")
def lines(program: dict[str, Any]) -> list[str]:
    return program["PAGE"].read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize("bug", thorough_but(ONE_A_CHECK, EVERY_BUG), ids=str)
def test_a_seeded_bug_is_rejected_by_the_check_that_names_it(bug: Bug, lines: list[str]) -> None:
    with bug.plant():
        assert named_check(bug.kind, bug.check).outcome(bug.make).status == "failed"
    assert any(line.startswith(f"| {bug.what} | `{bug.check}` | ") for line in lines)
    if bug.plant is not Bug.plant:  # and the loop is whole again
        assert named_check(bug.kind, bug.check).outcome(bug.make).status == "passed"


@pytest.mark.parametrize("bug", nightly_but([], EVERY_BUG, thorough=EVERY_BUG[::20]), ids=str)
def test_the_page_says_what_else_does_not_pass(bug: Bug, program: dict[str, Any], lines: list[str]) -> None:
    row = program["row"](bug)
    assert f"`{bug.check}`" in row  # and not `nothing`
    assert row in lines


def test_the_page_has_these_bugs_and_no_others(lines: list[str]) -> None:
    named = [line.split(" | ")[0].removeprefix("| ") for line in lines if line.startswith("| ")]
    assert [what for what in named if what != "the bug"] == [bug.what for bug in EVERY_BUG]
    assert f"There are {len(EVERY_BUG)} of them." in lines


def test_bugs_have_names_of_their_own() -> None:
    assert len({str(bug) for bug in EVERY_BUG}) == len(EVERY_BUG) >= 25
