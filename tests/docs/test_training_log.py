"""docs/tools/training_log.py: what it makes of records, and that those of docs/evidence/training/ are whole.

That the page is what it writes is in test_generated_pages.py.
"""

from __future__ import annotations

import json
import runpy
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from docs_pages import ROOT

DOCS = ROOT / "docs"
RECORDS = "evidence/training"
FIRST = "2026-11-22-first"
NEEDED = {
    "": {"divergence", "right_drafts", "row_tokens_per_second"},
    "-answers": {"answers", "tokens", "tokens_per_second"},
}


@pytest.fixture(scope="module")
def program() -> dict[str, Any]:
    return runpy.run_path(str(DOCS / "tools" / "training_log.py"))


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    """Give a copy of what the page is made of."""
    shutil.copytree(DOCS / RECORDS, tmp_path / RECORDS)
    return tmp_path


def test_every_record_is_of_a_trial() -> None:
    held = yaml.safe_load((DOCS / RECORDS / "trials.yaml").read_text(encoding="utf-8"))
    kinds = (".jsonl", "-answers.jsonl", "-acceptance.json")
    files = [f"{trial['name']}{kind}" for trial in held["trials"] for kind in kinds]
    files += [f"{trial['name']}{kind}" for trial in held["heads"] for kind in (".jsonl", "-acceptance.json")]
    files += [f"{trial['name']}.jsonl" for trial in held["short"]["trials"]]
    assert sorted([*files, "trials.yaml"]) == sorted(
        file.name for file in (DOCS / RECORDS).iterdir() if not file.name.endswith(".card.yaml")
    )


def test_gpu_minutes_are_tokens_over_tokens_a_second_times_gpus(program: dict[str, Any]) -> None:
    steps = [{"step": 10, "row_tokens_per_second": 100.0}, {"step": 30, "row_tokens_per_second": 200.0}]
    trial = {"gpus": 3, "fit": {"rows": 6, "row_tokens": 100}}
    # 6,000 tokens in 60 s, 12,000 in 60 s
    assert program["gpu_minutes"](trial, steps) == pytest.approx(3 * 2.0)


def test_what_fell_last_is_held_against_the_fifth_before(program: dict[str, Any]) -> None:
    steps = [{"divergence": float(value)} for value in (9, 9, 9, 9, 9, 9, 5, 3, 2, 1)]
    assert "last fifth of the steps was 1.500, of the fifth before it 4.000" in program["falling"](steps)


def test_a_bar_that_is_just_reached_is_met(program: dict[str, Any]) -> None:
    lines = program["against_bars"]({"pooled": 4.5, "ended_pooled": 3.29}, "int8", {"all": 4.5, "ended": 3.3})
    assert [line.split(" | ")[-1] for line in lines[2:]] == ["met |", "not met |"]


def test_what_a_head_gives_is_held_against_the_same_drafts_without_it(program: dict[str, Any]) -> None:
    head, none = {"pooled": 5.0, "ended_pooled": 3.0}, {"pooled": 4.0, "ended_pooled": 2.5}
    assert program["compared"](head, none) == ["4.000", "5.000", "+25.0 %", "2.500", "3.000"]


@pytest.mark.parametrize("kind", NEEDED)
def test_the_records_are_those_that_the_stages_write(kind: str) -> None:
    lines = (DOCS / RECORDS / f"{FIRST}{kind}.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(lines[0]).keys() >= NEEDED[kind]


def test_costs_are_told_with_the_hardware(program: dict[str, Any], docs: Path) -> None:
    trials = docs / RECORDS / "trials.yaml"
    text = trials.read_text(encoding="utf-8")
    _, *others = (trial["machine"] for trial in yaml.safe_load(text)["trials"])
    trials.write_text(text.replace("machine: two NVIDIA H200", "machine: three abaci", 1), encoding="utf-8")
    head, _, *rows = (line.strip("| ").split(" | ") for line in program["cost_lines"](docs / RECORDS))
    column = head.index("on")
    told = [row[column] for row in rows]
    assert told == [*reversed(others), "three abaci"]  # the first trial last
