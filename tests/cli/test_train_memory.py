"""`orthrus train` on a device that is too small, in a dtype that is too coarse; what its stage `eval` notes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from support.program import Outcome
from support.thorough import thorough_but
from support.trainable import STAGES, made

import orthrus as package
from orthrus_transformers.engines.eager import EagerEngine
from orthrus_transformers.engines.native import NativeEngine
from orthrus_transformers.model import self_check
from orthrus_transformers.training.dual_pass import DualPass

SAMPLED = "prompts.sampled=4"
BATCHES = {"prompts": 1024, "answers": 4, "eval": 32}


@pytest.mark.parametrize("stage", thorough_but(["prompts"], ["prompts", "answers"]))
def test_out_of_memory(stage: str, train: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*given: object, **more: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nMore lines.")

    for before in STAGES[: STAGES.index(stage)]:
        assert train(before, SAMPLED).code == 0
    monkeypatch.setattr(package.Decoder, "generate", full)
    assert train(stage, SAMPLED).error() == (
        f"the device is out of memory in the stage {stage}; set {stage}.batch (now {BATCHES[stage]}) lower"
    )
    assert not [name for name in made() if name.startswith((f"{stage}/part-", f"{stage}/shard-"))]
    assert stage == "answers" or not Path("out/prompts.jsonl").exists()
    monkeypatch.undo()


@pytest.mark.parametrize("stage", thorough_but(["answers"], ["prompts", "answers", "eval"]))
def test_out_of_memory_in_a_pass(stage: str, train: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the target has a sentence of its own, which names settings that a stage does not take."""

    def full(*given: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    for before in STAGES[: STAGES.index(stage)]:
        assert train(before).code == 0
    with monkeypatch.context() as patch:
        for engine in (EagerEngine, NativeEngine):
            patch.setattr(engine, "run", full)
        patch.setattr(self_check, "probe", lambda *given: [])
        sampled = [SAMPLED] if stage == "prompts" else []
        assert train(stage, *sampled).error() == (
            f"the device is out of memory in the stage {stage}; set {stage}.batch (now {BATCHES[stage]}) lower"
        )


def test_bad_input_is_not_taken_for_too_little_memory(train: Callable[..., Outcome]) -> None:
    assert "memory" not in train("answers").error()


def test_float16_is_refused(answered: Path, train: Callable[..., Outcome]) -> None:
    before = made()
    error = train("fit", "target.dtype=float16").error()
    assert error.endswith("small gradients are lost; to train a view set target.dtype=bfloat16 or float32")
    assert made() == before
    assert train("fit", "target.dtype=bfloat16").code == 0


@pytest.mark.thorough
@pytest.mark.usefixtures("plots")
def test_every_measurement_is_a_line_and_a_point_of_the_plot(train: Callable[..., Outcome]) -> None:
    assert train("all").code == 0
    assert train("eval").code == 0
    lines = [json.loads(line) for line in Path("out/eval/metrics.jsonl").read_text().splitlines()]
    assert [line["measurement"] for line in lines] == [1, 2]
    assert {**lines[1], "measurement": 1} == lines[0]
    assert lines[1].items() >= json.loads(Path("out/eval.json").read_text()).items()
    assert "tokens_per_cycle" in Path("out/eval/metrics.svg").read_text()


def test_out_of_memory_while_fitting(
    answered: Path, train: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*given: object, **more: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    before = made()
    monkeypatch.setattr(DualPass, "committed", full)
    error = train("fit").error()
    assert error.startswith("the device is out of memory in the stage fit; set ")
    assert all(f"fit.{name}" in error for name in ("rows_at_a_time", "loss_rows", "row_tokens", "anchors"))
    assert made() == before
