"""Which prompts a view is measured with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.toy import toy_config

from orthrus import InputError
from orthrus_diffusion.training.evaluation import evaluation_prompts
from orthrus_diffusion.training.process_group import Workers
from orthrus_diffusion.training.session import TrainingSession


def run(directory: Path, *overrides: str) -> TrainingSession:
    return TrainingSession.read(toy_config(directory), ["eval.prompts=2", *overrides], Workers(), print)


def write(file: Path, *prompts: str) -> Path:
    file.write_text("".join(json.dumps({"prompt": prompt}) + "\n" for prompt in prompts), encoding="utf-8")
    return file


@pytest.mark.thorough
def test_prompts_that_were_held_out_measure_unless_files_are_named(tmp_path: Path) -> None:
    held_out = tmp_path / "out" / "held-out.jsonl"
    with pytest.raises(InputError) as refused:
        evaluation_prompts(run(tmp_path))
    assert str(refused.value) == (
        f"there is no '{held_out}'; run the stage prompts, which holds some out, or name eval.files"
    )
    write(held_out, "a", "b")
    assert evaluation_prompts(run(tmp_path)) == ["a", "b"]
    first, other = write(tmp_path / "one.jsonl", "c", "d", "e"), write(tmp_path / "other.jsonl", "f", "g", "h")
    assert evaluation_prompts(run(tmp_path, f"eval.files=[{first},{other}]")) == ["c", "d", "f", "g"]
