"""What stages record: nothing twice, nothing lost behind a line that was cut off, and the plot has all of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from support.thorough import thorough_but
from support.trainable import end_answers_with, lay_out, tiny_model

from orthrus_diffusion.training import prompts
from orthrus_diffusion.training.metrics_log import Records
from orthrus_diffusion.training.stages import run_stages

SETTINGS = ("prompts.sampled=7", "prompts.max_new_tokens=6", "answers.shard=1")
STAGES = {  # what a stage counts, and what is deleted: a file, and what is made of all files
    "prompts": ("part", ["prompts/part-00001.jsonl", "prompts.jsonl"]),
    "answers": ("shard", ["answers/shard-00001.safetensors"]),
}


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch, plots: None) -> list[tuple[float, ...]]:
    """Return a list that gets the x of every line that is drawn."""

    def plot(self: Any, x: Sequence[float], y: Sequence[float], **more: Any) -> Any:
        points.append(tuple(x))
        return own(self, x, y, **more)

    from matplotlib.axes import Axes

    points: list[tuple[float, ...]] = []
    own = Axes.plot
    monkeypatch.setattr(Axes, "plot", plot)
    return points


def test_a_line_that_was_cut_off_takes_no_other_with_it(tmp_path: Path) -> None:
    kept = Records(tmp_path / "stage", "step")
    assert kept.read() == []
    kept.write(step=1, loss=2.5)
    with (tmp_path / "stage" / "metrics.jsonl").open("a") as held:
        held.write('{"step": 2, "lo')  # the disk is full
    kept.write(step=3, loss=1.5)
    kept.write(step=4, loss=1.25)
    assert kept.read() == [{"step": 1, "loss": 2.5}, {"step": 3, "loss": 1.5}, {"step": 4, "loss": 1.25}]
    kept.resume(lambda step: step < 4)
    assert (tmp_path / "stage" / "metrics.jsonl").read_text() == '{"step": 1, "loss": 2.5}\n{"step": 3, "loss": 1.5}\n'


def test_the_plot_has_what_other_processes_recorded(tmp_path: Path, drawn: list[tuple[float, ...]]) -> None:
    first, second = Records(tmp_path, "shard"), Records(tmp_path, "shard")
    second.write(shard=1, tokens=5)
    first.write(shard=0, tokens=7)
    second.write(shard=3, tokens=5)
    first.write(shard=2, tokens=6)
    first.plot(pytest.fail)
    assert drawn == [(0, 1, 2, 3)]


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder in which prompts and answers are made, four files each."""
    folder = tmp_path_factory.mktemp("records") / "begun"
    folder.mkdir()
    base = tiny_model(folder.parent / "base")
    end_answers_with(base, "KLWX")
    lay_out(base, folder)
    return folder


@pytest.mark.parametrize("stage", thorough_but([], STAGES))
def test_what_is_made_again_is_recorded_once(
    stage: str, begun: Path, drawn: list[tuple[float, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(begun)
    monkeypatch.setattr(prompts, "PART", 2)
    x, deleted = STAGES[stage]
    for earlier in STAGES if stage == "answers" else ["prompts"]:
        run_stages(Path("train.yaml"), SETTINGS, earlier, lambda message: None)
    metrics = Path("out", stage, "metrics.jsonl")
    before = [json.loads(line) for line in metrics.read_text().splitlines()]
    assert len(before) >= 4 and [record[x] for record in before] == list(range(len(before)))
    for name in deleted:
        Path("out", name).unlink()
    drawn.clear()
    run_stages(Path("train.yaml"), SETTINGS, stage, lambda message: None)
    after = {record[x]: record for record in map(json.loads, metrics.read_text().splitlines())}
    assert len(metrics.read_text().splitlines()) == len(after) == len(before)
    assert all(after[record[x]] == record for record in before if record[x] != 1)  # those that were there
    assert set(drawn) == {tuple(range(len(before)))}
