"""docs/tools/verify_drafters.py: the drafters that it makes of a model, and the record that is committed.

That the page is what it writes is in test_generated_pages.py.
"""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import pytest
from docs_pages import ROOT
from support.families import VOCABULARY, tiny_model

import orthrus
from orthrus import Plugins

PARTS = {"attention": {"name": "sdpa"}, "cache": {"name": "dynamic"}, "stop": {"max_new_tokens": 16}}


@pytest.fixture(scope="module")
def program() -> dict[str, Any]:
    return runpy.run_path(str(ROOT / "docs" / "tools" / "verify_drafters.py"))


def test_what_it_makes_of_a_model_drafts_for_it(program: dict[str, Any], tmp_path: Path) -> None:
    tiny_model("llama", num_hidden_layers=6).float().save_pretrained(tmp_path / "target")
    program["write_drafters"](tmp_path / "target", tmp_path, known=16, mask=VOCABULARY - 1, left_out=1)
    target = {"name": "transformers", "source": str(tmp_path / "target"), "dtype": "float32", "device": "cpu"}
    plain = orthrus.load({**PARTS, "target": target, "drafter": {"name": "none"}})
    asked = [[1, 2, 3], [4, 5], [6]]
    expected = [result.token_ids for result in plain.generate(asked)]
    for name in program["MADE"]:
        drafter = {"name": name, "source": str(tmp_path / name)}
        results = orthrus.load({**PARTS, "drafter": drafter}, target=plain.target).generate(asked)
        assert [result.token_ids for result in results] == expected
        drafted = sum(result.measures.passes - result.measures.cycles - 1 for result in results)
        assert drafted > 0, name


def test_every_drafter_was_verified_and_what_is_not_random_was_accepted(program: dict[str, Any]) -> None:
    record = json.loads((ROOT / "docs" / program["RECORD"]).read_text(encoding="utf-8"))
    drafters = {entry.name for entry in Plugins.load().catalog if entry.kind == "drafter"}
    assert {run["label"] for run in record["runs"]} == drafters
    assert record["passed"] and record["settings"]["prompts"] >= 40
    for run in record["runs"]:
        assert run["dtype"] == "float32" and run["identical"] == run["prompts"] and run["oracle_checked"]
        if run["label"] not in ("none", "replay", "dflash", "eagle3"):
            assert run["accepted"] > 0, run["label"]


def test_a_run_that_is_not_certified_is_said(program: dict[str, Any]) -> None:
    record = json.loads((ROOT / "docs" / program["RECORD"]).read_text(encoding="utf-8"))
    count = len(record["runs"])
    assert f"In {count} of {count} runs every text is identical" in program["page"](record)
    record["runs"][1] |= {"passed": False, "identical": 3}
    page = program["page"](record)
    assert f"In {count - 1} of {count} runs every text is identical" in page and "**not certified**" in page
