"""What is told of damaged checkpoints is what happens, and new ones do not give way to them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from support.toy import toy_config, toy_run

from orthrus_diffusion.training.checkpoints import Checkpoint, Checkpoints
from orthrus_diffusion.training.fit import fit_view


def save(directory: Path, *steps: int) -> None:
    for step in steps:
        Checkpoints(directory, pytest.fail).save(Checkpoint(step, {}, {"w": torch.ones(2)}))


def damage(directory: Path, *steps: int) -> None:
    for step in steps:
        (directory / f"step-{step:08d}" / "state.safetensors").write_bytes(b"?")


def last(directory: Path) -> tuple[int | None, list[str]]:
    """Return the step of the checkpoint that is used, and what is told without the directory."""
    told: list[str] = []
    state = Checkpoints(directory, told.append).last()
    return state and state.step, [message.replace(f"{directory}/", "") for message in told]


def test_what_is_used_in_place_of_damaged_ones_is_told(tmp_path: Path) -> None:
    assert last(tmp_path) == (None, [])
    save(tmp_path, 3, 6)
    assert last(tmp_path) == (6, [])
    damage(tmp_path, 6)
    assert last(tmp_path) == (3, ["the checkpoint 'step-00000006' is damaged; that of step 3 is used"])
    damage(tmp_path, 3)
    none = "is damaged; none is whole, so training begins at step 0"
    assert last(tmp_path) == (None, [f"the checkpoint 'step-0000000{step}' {none}" for step in (6, 3)])


def test_a_new_one_does_not_give_way_to_damaged_ones(tmp_path: Path) -> None:
    save(tmp_path, 3, 6)
    damage(tmp_path, 3, 6)
    save(tmp_path, 1)
    assert last(tmp_path) == (1, [])
    save(tmp_path, 2, 3)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000002", "step-00000003"]


@pytest.mark.thorough
def test_a_fit_without_a_whole_checkpoint_begins_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, told = toy_config(tmp_path, steps=2, log_every=1), list[str]()
    fit_view(toy_run(file, monkeypatch))
    view, metrics = tmp_path / "out" / "view" / "view.safetensors", tmp_path / "out" / "fit" / "metrics.jsonl"
    before, lines = view.read_bytes(), len(metrics.read_text().splitlines())
    damage(tmp_path / "out" / "checkpoints", 2)
    view.unlink()
    fit_view(toy_run(file, monkeypatch, told.append))
    [message] = told
    assert message.endswith("step-00000002' is damaged; none is whole, so training begins at step 0")
    assert (view.read_bytes(), len(metrics.read_text().splitlines())) == (before, lines)
    assert last(tmp_path / "out" / "checkpoints") == (2, [])
