"""Training learns; what breaks it shows in the tokens per cycle of real decoding; interruptions change nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from support.thorough import nightly_but
from support.toy import toy_config, toy_run
from torch import Tensor

from orthrus import BuildError, InputError
from orthrus_diffusion.training import fit, loss
from orthrus_diffusion.training.checkpoints import Checkpoint, Checkpoints
from orthrus_diffusion.training.fit import fit_view
from orthrus_diffusion.view_files.quantization import quantized
from orthrus_transformers.training import attention, dual_pass, masks

LEARNT, BROKEN = 2.6, 2.2  # tokens per cycle, of at most 4


def records(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "fit" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]


def trained(directory: Path, monkeypatch: pytest.MonkeyPatch, steps: int = 120, **settings: Any) -> float:
    """Train a view of the toy language and return its tokens per cycle on sequences that it has not seen."""
    run = toy_run(toy_config(directory, steps=steps, save_every=1000, **settings), monkeypatch)
    fit_view(run)
    reached: float = records(run.out)[-1]["tokens_per_cycle"]
    return reached


def divergences(out: Path) -> list[float]:
    return [record["divergence"] for record in records(out) if "divergence" in record]


@pytest.mark.thorough
@pytest.mark.usefixtures("plots")
def test_a_toy_language_is_learnt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert trained(tmp_path, monkeypatch, steps=100) > LEARNT
    out = tmp_path / "out"
    fallen = divergences(out)
    assert fallen[-1] < fallen[0] / 2
    assert (out / "fit" / "metrics.svg").stat().st_size > 0
    assert sorted(path.name for path in (out / "view").iterdir()) == ["config.json", "view.safetensors"]


@pytest.mark.nightly
def test_it_is_learnt_from_hard_anchors_and_sharper_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {"hard_anchors": 0.9, "teacher_temperature": 0.7}
    assert trained(tmp_path, monkeypatch, **settings) > LEARNT


def shifted(monkeypatch: pytest.MonkeyPatch) -> None:
    def targets(batch: Any, size: int) -> tuple[Tensor, Tensor]:
        columns, valid = loss_targets(batch, size)
        return (columns + 1).clamp(max=batch.ends.shape[1] - 1), valid

    loss_targets = loss.targets
    monkeypatch.setattr(loss, "targets", targets)


def leaking(monkeypatch: pytest.MonkeyPatch) -> None:
    def seen_by_blocks(first: Tensor, anchors: Tensor, size: int, length: int, window: int | None) -> Any:
        return masks.seen_by_blocks(first, (anchors + size).clamp(max=length), size, length, window)

    monkeypatch.setattr(attention, "seen_by_blocks", seen_by_blocks)


def blind(monkeypatch: pytest.MonkeyPatch) -> None:
    def seen_by_blocks(first: Tensor, anchors: Tensor, size: int, length: int, window: int | None) -> Any:
        return masks.seen_by_blocks(anchors, anchors, size, length, window)

    monkeypatch.setattr(attention, "seen_by_blocks", seen_by_blocks)


def stale_anchor(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(self: Any, token_ids: Tensor, positions: Tensor, view: Any) -> Tensor:
        if view is not None:
            first = torch.arange(token_ids.shape[1]) % 4 == 0
            token_ids = torch.where(first, token_ids.roll(4, 1), token_ids)
        return own(self, token_ids, positions, view)

    own = dual_pass.DualPass.run
    monkeypatch.setattr(dual_pass.DualPass, "run", run)


def misplaced(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(self: Any, token_ids: Tensor, positions: Tensor, view: Any) -> Tensor:
        return own(
            self,
            token_ids,
            positions if view is None else torch.arange(positions.shape[1]).expand_as(positions) % 4,
            view,
        )

    own = dual_pass.DualPass.run
    monkeypatch.setattr(dual_pass.DualPass, "run", run)


FAULTS = [shifted, leaking, blind, stale_anchor, misplaced]


@pytest.mark.parametrize("plant", nightly_but([], FAULTS, thorough=[shifted, leaking]))
def test_a_planted_fault_is_not(
    plant: Callable[[pytest.MonkeyPatch], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch)
    assert trained(tmp_path, monkeypatch) < BROKEN


class InterruptedTrainingError(Exception):
    """Stand for whatever ends a process."""


def interrupt_after(steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def step(self: Any, number: int) -> float:
        if number == steps:
            raise InterruptedTrainingError
        return own(self, number)

    own = fit.MasterWeights.step
    monkeypatch.setattr(fit.MasterWeights, "step", step)


def view_of(directory: Path) -> dict[str, Tensor]:
    return dict(load_file(directory / "out" / "view" / "view.safetensors"))


@pytest.mark.thorough
def test_a_training_that_was_interrupted_ends_in_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"steps": 5, "save_every": 2, "hard_anchors": 0.5}
    fit_view(toy_run(toy_config(tmp_path / "whole", **settings), monkeypatch))
    file = toy_config(tmp_path / "parts", **settings)
    with monkeypatch.context() as patch:
        interrupt_after(3, patch)
        with pytest.raises(InterruptedTrainingError):
            fit_view(toy_run(file, monkeypatch))
    fit_view(toy_run(file, monkeypatch))
    whole, parts = view_of(tmp_path / "whole"), view_of(tmp_path / "parts")
    assert whole.keys() == parts.keys()
    assert all(torch.equal(weight, parts[name]) for name, weight in whole.items())
    steps = [record["step"] for record in records(tmp_path / "parts" / "out")]
    assert steps == [record["step"] for record in records(tmp_path / "whole" / "out")]


@pytest.mark.thorough
def test_the_view_is_quantized_from_the_masters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = toy_config(tmp_path, steps=3)
    fit_view(toy_run(file, monkeypatch, print, "target.dtype=bfloat16", "training.storage=int8"))
    last = Checkpoints(tmp_path / "out" / "checkpoints", print).last()
    assert last is not None
    masters = {name.removeprefix("weight:"): value for name, value in last.tensors.items() if name[:7] == "weight:"}
    held, rounded = view_of(tmp_path), {name: value.bfloat16() for name, value in masters.items()}
    wanted, others = quantized(masters), quantized(rounded)
    assert held.keys() == wanted.keys()
    assert all(torch.equal(weight, wanted[name]) for name, weight in held.items())
    assert not all(torch.equal(weight, others[name]) for name, weight in held.items())


@pytest.mark.thorough
def test_a_training_that_is_done_is_not_begun_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = toy_config(tmp_path, steps=2)
    fit_view(toy_run(file, monkeypatch))
    before = view_of(tmp_path)
    interrupt_after(0, monkeypatch)
    interrupt_after(1, monkeypatch)
    fit_view(toy_run(file, monkeypatch))
    assert all(torch.equal(weight, before[name]) for name, weight in view_of(tmp_path).items())


@pytest.mark.thorough
def test_a_damaged_checkpoint_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {"steps": 8, "save_every": 3}
    fit_view(toy_run(toy_config(tmp_path / "whole", **settings), monkeypatch))
    file = toy_config(tmp_path / "parts", **settings)
    with monkeypatch.context() as patch:
        interrupt_after(7, patch)
        with pytest.raises(InterruptedTrainingError):
            fit_view(toy_run(file, monkeypatch))
    damaged = tmp_path / "parts" / "out" / "checkpoints" / "step-00000006" / "state.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"?")
    told: list[str] = []
    fit_view(toy_run(file, monkeypatch, told.append))
    assert told == [f"the checkpoint '{damaged.parent}' is damaged; that of step 3 is used"]
    whole = view_of(tmp_path / "whole")
    assert all(torch.equal(weight, whole[name]) for name, weight in view_of(tmp_path / "parts").items())


@pytest.mark.thorough
def test_another_training_is_not_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = toy_config(tmp_path, steps=2)
    fit_view(toy_run(file, monkeypatch))
    with pytest.raises(fit.InputError, match="of a training with another fit; delete them"):
        fit_view(toy_run(file, monkeypatch, print, "fit.learning_rate=0.5"))


def test_gradients_that_are_not_finite_are_skipped_and_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def gather(self: Any) -> None:
        nonlocal calls
        calls += 1
        own(self)
        if calls == 2:
            self.gradients()[0].fill_(float("inf"))

    calls, own = 0, fit.MasterWeights.gather
    monkeypatch.setattr(fit.MasterWeights, "gather", gather)
    fit_view(toy_run(toy_config(tmp_path, steps=4, log_every=1), monkeypatch))
    skipped = [record for record in records(tmp_path / "out") if "skipped" in record]
    assert [record["skipped"] for record in skipped] == [0, 1, 1, 1]
    assert all(bool(weight.isfinite().all()) for weight in view_of(tmp_path).values())


@pytest.mark.thorough
def test_a_checkpoint_of_before_an_option_came_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = toy_config(tmp_path, steps=2)
    fit_view(toy_run(file, monkeypatch))
    manifest = tmp_path / "out" / "checkpoints" / "step-00000002" / "checkpoint.json"
    entries = json.loads(manifest.read_text(encoding="utf-8"))
    assert entries["facts"]["fit"].pop("hard_anchors") == 0
    manifest.write_text(json.dumps(entries), encoding="utf-8")
    fit_view(toy_run(file, monkeypatch))  # whose default is what the training had
    with pytest.raises(InputError, match="of a training with another fit"):
        fit_view(toy_run(file, monkeypatch, print, "fit.hard_anchors=0.5"))


def test_the_checkpoints_of_a_training_are_the_last_two(tmp_path: Path) -> None:
    kept = Checkpoints(tmp_path, print)
    for step in (1, 2, 3):
        kept.save(Checkpoint(step, {"a": 1}, {"w": torch.full((2,), float(step))}))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000002", "step-00000003"]
    last = kept.last()
    assert last is not None and (last.step, last.facts) == (3, {"a": 1})
    assert torch.equal(last.tensors["w"], torch.full((2,), 3.0))


def test_a_missing_shard_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = toy_config(tmp_path, steps=1)
    note = tmp_path / "out" / "answers" / "made-with.json"
    note.write_text(json.dumps({"shards": 3}), encoding="utf-8")
    with pytest.raises(fit.InputError, match="2 of 3 shards are missing"):
        fit_view(toy_run(file, monkeypatch))


@pytest.mark.thorough
def test_other_texts_are_not_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = toy_config(tmp_path, steps=2)
    fit_view(toy_run(file, monkeypatch))
    shard = tmp_path / "out" / "answers" / "shard-00000.safetensors"
    shard.with_name("shard-00001.safetensors").write_bytes(shard.read_bytes())
    with pytest.raises(fit.InputError, match="of a training with another texts"):
        fit_view(toy_run(file, monkeypatch))


@pytest.mark.thorough
def test_what_changes_no_weight_may_change_on_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = toy_config(tmp_path, steps=2)
    fit_view(toy_run(file, monkeypatch))
    fit_view(toy_run(file, monkeypatch, print, "fit.rows_at_a_time=2", "fit.loss_rows=1", "fit.log_every=1"))


@pytest.mark.thorough
def test_a_record_cut_off_is_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = toy_config(tmp_path, steps=2, log_every=1)
    (tmp_path / "out" / "fit").mkdir(parents=True)
    (tmp_path / "out" / "fit" / "metrics.jsonl").write_bytes(b'{"step": 1}\n[1]\n3\n{"other": 3}\n\xff\n{"ste')
    fit_view(toy_run(file, monkeypatch))
    assert [record["step"] for record in records(tmp_path / "out")] == [1, 2, 2]


def test_flex_attention_is_refused_where_it_has_no_gradients(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BuildError, match="no gradients on 'cpu'; train with dense masks"):
        fit_view(toy_run(toy_config(tmp_path, steps=1), monkeypatch, print, "fit.masks=flex"))
