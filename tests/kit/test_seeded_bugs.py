"""The kit rejects every seeded bug by the check that names it; docs/bugs-the-kit-finds.md is what it then says."""

from __future__ import annotations

import runpy
from typing import Any

import pytest
from support.bug import Bug
from support.bugs import EVERY_BUG
from support.program import ROOT

from orthrus.testing import named_check


@pytest.fixture(scope="module")
def program() -> dict[str, Any]:
    return runpy.run_path(str(ROOT / "docs" / "examples" / "bug_table.py"))


@pytest.fixture(scope="module")
def lines(program: dict[str, Any]) -> list[str]:
    return program["PAGE"].read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize("bug", EVERY_BUG, ids=str)
def test_a_seeded_bug_is_rejected_as_the_page_says(bug: Bug, program: dict[str, Any], lines: list[str]) -> None:
    row = program["row"](bug)
    assert f"`{bug.check}`" in row  # and not `nothing`
    assert row in lines


def test_the_page_has_these_bugs_and_no_others(lines: list[str]) -> None:
    named = [line.split(" | ")[0].removeprefix("| ") for line in lines if line.startswith("| ")]
    assert [one for one in named if one != "the bug"] == [bug.what for bug in EVERY_BUG]
    assert f"There are {len(EVERY_BUG)} of them." in lines


def test_bugs_have_names_of_their_own() -> None:
    assert len({str(bug) for bug in EVERY_BUG}) == len(EVERY_BUG) >= 25


@pytest.mark.parametrize("bug", [bug for bug in EVERY_BUG if bug.plant is not Bug.plant], ids=str)
def test_what_is_planted_in_the_loop_goes_away_again(bug: Bug) -> None:
    with bug.plant():
        assert named_check(bug.kind, bug.check).outcome(bug.make).status == "failed"
    assert named_check(bug.kind, bug.check).outcome(bug.make).status == "passed"
