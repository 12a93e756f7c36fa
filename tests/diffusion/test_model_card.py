"""A model card's figures are those of the files that it is made from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from orthrus import InputError
from orthrus_diffusion.view_files.config import ViewConfig
from orthrus_diffusion.view_files.formats import write_view
from orthrus_diffusion.view_files.model_card import model_card


@pytest.fixture
def view(tmp_path: Path) -> Path:
    config = ViewConfig(16, 3, "SmolLM2", "f00d")
    write_view(tmp_path / "smollm2", {"w": torch.ones(200, 300)}, config, "int8")
    return tmp_path / "smollm2"


def card(view: Path, *figures: Path) -> str:
    return model_card(view, licence="apache-2.0", data="Its own.", recipe="`orthrus train`", figures=figures)


def test_it_says_what_the_view_is(view: Path) -> None:
    text = card(view)
    for line in (
        "license: apache-2.0", "base_model: SmolLM2", "# smollm2", "| block | 16 |", "| mask token | 3 |",
        "| storage | int8, 0.1 MB |", "| fingerprint of its weights | `f00d` |", "Its own.", "`orthrus train`",
    ):  # fmt: skip
        assert f"{line}\n" in text


def test_figures_come_from_files(view: Path, tmp_path: Path) -> None:
    figures = {
        "title": "Acceptance", "pooled": {"tokens_per_cycle": 4.56789, "ended": True}, "prompts": 80, "gpu": "H100",
        "each": [1, 2], "missing": None,
    }  # fmt: skip
    (tmp_path / "eval.json").write_text(json.dumps(figures))
    (tmp_path / "cost.json").write_text(json.dumps({"gpu_minutes": 20}))
    text = card(view, tmp_path / "eval.json", tmp_path / "cost.json")
    rows = ["`pooled.tokens_per_cycle` | 4.568", "`pooled.ended` | True", "`prompts` | 80", "`gpu` | H100"]
    table = "\n".join(f"| {row} |" for row in ["figure | value", *rows])
    assert table.replace("value |\n", "value |\n|---|---|\n") in text
    assert "## Acceptance\n" in text and "## cost\n" in text and "| `gpu_minutes` | 20 |\n" in text
    assert "each" not in text and "missing" not in text


def test_figures_that_cannot_be_read_are_refused(view: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"the figures in '.*gone\.json' cannot be read as JSON"):
        card(view, tmp_path / "gone.json")
    (tmp_path / "list.json").write_text("[]")
    with pytest.raises(InputError, match=r"'.*list\.json' must hold a mapping of figures, not a list"):
        card(view, tmp_path / "list.json")
