"""The program that writes a view of random weights: of the same shapes, for the same model, and of no use."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from support.view_programs import example

from orthrus_diffusion.view_files.config import read_config
from orthrus_diffusion.view_files.formats import read_view
from orthrus_diffusion.view_files.shipped import VIEWS

SHIPPED = VIEWS / "smollm2-135m-instruct"


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["random_view.py", *arguments])
    code: int = example("random_view").main()
    return code


def test_it_is_a_view_for_the_same_model_with_other_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(monkeypatch, "--out", str(tmp_path / "view")) == 0
    assert read_config(tmp_path / "view") == read_config(SHIPPED)
    written, shipped = read_view(tmp_path / "view"), read_view(SHIPPED)
    assert written.keys() == shipped.keys()
    for name, weight in written.items():
        both = torch.stack([weight.float().flatten(), shipped[name].float().flatten()])
        assert weight.shape == shipped[name].shape
        assert abs(float(torch.corrcoef(both)[0, 1])) < 0.1
        assert 0.9 < float(both[0].std() / both[1].std()) < 1.1


def test_what_cannot_be_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "--like", str(tmp_path / "nowhere"), "--out", str(tmp_path / "view")) == 2
    assert capsys.readouterr().err == f"error: there is no directory '{tmp_path / 'nowhere'}'\n"
