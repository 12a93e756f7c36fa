"""The shipped view's model card has the measured figures; test_generated_pages.py holds it to its program."""

from __future__ import annotations

import json
from types import ModuleType
from typing import Any

import pytest
import yaml
from support.view_programs import example

from orthrus_diffusion.view_files.shipped import VIEWS


@pytest.fixture(scope="module")
def program() -> ModuleType:
    return example("view_card")


@pytest.fixture(scope="module")
def facts(program: ModuleType) -> dict[str, Any]:
    values: dict[str, Any] = yaml.safe_load(program.CARD.read_text(encoding="utf-8"))
    return values


def test_it_says_what_was_measured(program: ModuleType, facts: dict[str, Any]) -> None:
    measured = json.loads((program.TRAINING / facts["acceptance"]).read_text(encoding="utf-8"))
    text = (VIEWS / facts["view"] / "README.md").read_text(encoding="utf-8")
    for file, figures in measured["int8, block 16"].items():
        for name in ("pooled", "per_prompt", "ended_pooled", "ended_per_prompt", "ended"):
            assert f"| `{file}.{name}` | {figures[name]:.4g} |\n" in text
    assert "license: apache-2.0\nbase_model: HuggingFaceTB/SmolLM2-135M-Instruct\n" in text


def test_int8_costs_less_than_one_percent(program: ModuleType, facts: dict[str, Any]) -> None:
    assert min(program.figures(facts)["acceptance.json"]["int8_over_float"].values()) > 0.99


def test_the_fits_seconds_are_counted_once(program: ModuleType) -> None:
    records = [
        {"step": 10, "row_tokens_per_second": 100.0},
        {"step": 10, "tokens_per_cycle": 2.0},  # a measurement in between
        {"step": 30, "row_tokens_per_second": 50.0},
    ]
    assert program.seconds_of_fit(records, 20) == 10 * 20 / 100 + 20 * 20 / 50
