"""docs/tools/lossless_evidence.py: the records that it is given, and what it says of one that is not certified.

That the page is what it writes is in test_generated_pages.py.
"""

from __future__ import annotations

import json
import runpy
import shutil
from pathlib import Path
from typing import Any

import pytest
from docs_pages import ROOT

from orthrus.verification.report import FORMAT

DOCS = ROOT / "docs"
PAGE, RECORDS = "explanation/lossless.md", "evidence/lossless"


@pytest.fixture(scope="module")
def program() -> dict[str, Any]:
    return runpy.run_path(str(DOCS / "tools" / "lossless_evidence.py"))


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    """Give a copy of the page and what it is made of."""
    shutil.copytree(DOCS / RECORDS, tmp_path / RECORDS)
    (tmp_path / PAGE).parent.mkdir()
    shutil.copy(DOCS / PAGE, tmp_path / PAGE)
    return tmp_path


def records() -> list[dict[str, Any]]:
    return [json.loads(file.read_text(encoding="utf-8")) for file in sorted((DOCS / RECORDS).iterdir())]


def test_the_evidence_is_of_certified_runs_without_tf32_in_both_kinds_of_dtype() -> None:
    for record in records():
        assert record["format"] == FORMAT and record["passed"]
        assert record["environment"]["float32_products"] == "highest"
        several = {run["label"] for run in record["runs"] if run["batch"] > 1}
        assert several == {run["label"] for run in record["runs"]}  # each in batches, too
    runs = [run for record in records() for run in record["runs"]]
    assert {(run["dtype"], run["temperature"]) for run in runs} >= {
        ("float32", 0.0),
        ("float32", 0.8),
        ("bfloat16", 0.0),
    }
    trees = [(run["label"], run["temperature"]) for run in runs if run["label"] in ("smollm2-tree-gpu", "one_pass")]
    assert sorted(trees) == [(label, heat) for label in ("one_pass", "smollm2-tree-gpu") for heat in (0.0, 0.8)]
    assert all(run["control"] for run in runs if run["dtype"] == "bfloat16")


def test_the_record_of_before_says_what_the_page_says_of_it() -> None:
    record = json.loads((DOCS / "evidence" / "lossless-before.json").read_text(encoding="utf-8"))
    same = {(run["label"], run["batch"]): run["identical"] for run in record["runs"]}
    view, lookup = ([same[label, batch] for batch in (1, 8)] for label in ("smollm2-diffusion-gpu", "prompt_lookup"))
    text = " ".join((DOCS / PAGE).read_text(encoding="utf-8").split())
    assert f"had {view[0]} and {lookup[0]} of 444 texts in common" in text
    assert f"{view[1]} and {lookup[1]} at batch 8" in text
    assert sum(run["rule_c"] == "fails" for run in record["runs"]) == 4
    assert all(run["certified"] == 444 for run in record["runs"])


def test_a_run_that_is_not_certified_is_told_so(docs: Path, program: dict[str, Any]) -> None:
    file = min((docs / RECORDS).iterdir())
    record = json.loads(file.read_text(encoding="utf-8"))
    record["runs"][0]["passed"] = False
    file.write_text(json.dumps(record), encoding="utf-8")
    assert program["page"](docs).count("**not certified**") == 1
