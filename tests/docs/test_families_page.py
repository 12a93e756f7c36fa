"""The page of families says what is so, and the program that tries them notices a text that is not the model's own."""

from __future__ import annotations

import json
import runpy
import sys
from importlib.metadata import version
from typing import Any

import pytest
import torch
from docs_pages import ROOT
from support.building import transformers_target
from support.thorough import nightly_but
from torch import Tensor

from orthrus_transformers.recurrent.scored_pass import ScoredPass

TOOLS = ROOT / "docs" / "tools"
SOME = ["bloom", "falcon_h1", "gemma2", "gpt2", "kimi_linear", "mamba2", "qwen3_5_text", "rwkv", "zamba2"]


@pytest.fixture(scope="module")
def program() -> dict[str, Any]:
    sys.path.insert(0, str(TOOLS))
    try:
        return runpy.run_path(str(TOOLS / "families.py"))
    finally:
        sys.path.remove(str(TOOLS))


@pytest.mark.parametrize("family", nightly_but([], SOME, thorough=["mamba2", "bloom"]))
def test_the_record_of_a_family_is_what_becomes_of_it(family: str, program: dict[str, Any]) -> None:
    record = json.loads(program["EVIDENCE"].read_text(encoding="utf-8"))
    assert program["names"]() == sorted(record["families"]) or record["transformers"] != version("transformers")
    assert program["tried"](family) == record["families"][family]


@pytest.mark.thorough
def test_a_text_that_is_not_the_models_own_is_noticed(program: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    target = transformers_target("mamba2")
    assert program["mistake"](target) is None

    def every_token(outcome: ScoredPass, lengths: Tensor) -> Tensor:
        return torch.full_like(lengths, outcome.columns)

    monkeypatch.setattr(ScoredPass, "counts", every_token)
    assert program["mistake"](target) == "a text with drafts is not the model's own"


def test_what_is_refused_or_not_made_has_its_reason_on_the_page(program: dict[str, Any]) -> None:
    families = {
        "one": {"outcome": "refused", "why": "model type 'one' has a | in it"},
        "two": {"outcome": "not made", "why": "ValueError: too large"},
        "three": {"outcome": "runs", "class": "Three", "taken back by": "keys in slots", "view": "yes"},
    }
    page = program["page"]({"transformers": "1", "torch": "1", "families": families})
    assert "Of the other 2\n**1 run**, 1 are refused, 0 are wrong." in page
    assert "| `one` | model type 'one' has a \\| in it |" in page
    assert "| `three` | `Three` | keys in slots | yes |" in page and "Those that are wrong" not in page
