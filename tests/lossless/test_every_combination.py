"""Every drafter, cache and attention together, composed from a config: as docs/results/combinations.md has it."""

from __future__ import annotations

import json
import runpy
from typing import Any

import pytest
from support.program import ROOT
from support.thorough import nightly_but

from orthrus import Plugins

PROGRAM = runpy.run_path(str(ROOT / "docs" / "tools" / "combinations.py"))
EVERY: list[tuple[str, str, str]] = PROGRAM["EVERY"]
SPREAD = EVERY[3::37]


@pytest.fixture(scope="module")
def combinations(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return PROGRAM["Combinations"](tmp_path_factory.mktemp("combinations"))


@pytest.fixture(scope="module")
def record() -> dict[tuple[str, str, str], str]:
    runs = json.loads((ROOT / "docs" / PROGRAM["RECORD"]).read_text(encoding="utf-8"))
    return {(run["drafter"], run["cache"], run["attention"]): run["outcome"] for run in runs}


@pytest.mark.parametrize(("drafter", "cache", "attention"), nightly_but([], EVERY, thorough=SPREAD))
def test_a_combination_does_what_the_page_says(
    combinations: Any, record: Any, drafter: str, cache: str, attention: str
) -> None:
    assert combinations.outcome(drafter, cache, attention) == record[drafter, cache, attention]


def test_the_page_has_every_drafter_and_cache_and_no_text_that_differs(record: dict[Any, str]) -> None:
    catalog = Plugins.load().catalog
    assert {drafter.partition(",")[0] for drafter, _, _ in record} == set(catalog.names("drafter"))
    assert {cache.partition(",")[0] for _, cache, _ in record} == set(catalog.names("cache"))
    assert sorted(record) == sorted(EVERY) and "other" not in record.values()
    on_cpus = {combination: outcome for combination, outcome in record.items() if combination[2] in ("eager", "sdpa")}
    refused = {combination: outcome for combination, outcome in on_cpus.items() if outcome != PROGRAM["SAME"]}
    assert {(drafter.partition(", ")[2], cache) for drafter, cache, _ in refused} == {("trees", "offloaded")}
    assert all("cannot move the keys of an accepted branch" in outcome for outcome in refused.values())
