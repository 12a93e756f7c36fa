"""Which prompts are held out for eval, and that none of them is trained on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.toy import toy_config, toy_run

from orthrus import InputError
from orthrus_diffusion.training.decontamination import Contamination
from orthrus_diffusion.training.prompts import collect_prompts


def texts(file: Path) -> list[str]:
    return [json.loads(line)["prompt"] for line in file.read_text(encoding="utf-8").splitlines()]


def test_prompts_of_files_alone_are_held_out_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = tmp_path / "given.jsonl"
    given.write_text("".join(json.dumps({"prompt": f"say {index % 5}"}) + "\n" for index in range(9)), encoding="utf-8")
    run = toy_run(toy_config(tmp_path), monkeypatch, print, "prompts.sampled=0", f"prompts.files=[{given}]")
    collect_prompts(run, [], 2)
    held_out, kept = texts(run.out / "held-out.jsonl"), texts(run.out / "prompts.jsonl")
    assert (len(held_out), len(kept)) == (2, 3)
    assert not set(held_out) & set(kept)
    with pytest.raises(InputError, match="there are 5 prompts, of which eval holds out 5"):
        collect_prompts(run, [], 5)


QUESTION = "A baker sells twelve loaves in the morning and twice as many in the afternoon. How many does she sell?"


@pytest.mark.parametrize(
    "repeated",
    [
        "Say it.",
        "say   IT",
        QUESTION,
        f"Answer this: {QUESTION.lower()} Explain.",
        QUESTION.replace(". ", ", ").replace("A baker", "My aunt"),
    ],
)
def test_a_prompt_that_repeats_a_measured_one_is_avoided(repeated: str) -> None:
    assert repeated in Contamination([QUESTION, "Say it."])


@pytest.mark.parametrize("other", ["Say it again.", "it", QUESTION.replace("sells", "bakes").replace("twice", "half")])
def test_a_prompt_that_shares_fewer_words_is_kept(other: str) -> None:
    assert other not in Contamination([QUESTION, "Say it."])


def test_what_is_measured_with_is_not_trained_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, prompts in {"given": [QUESTION, "say 1", "say 2"], "measured": [QUESTION, "say 2"]}.items():
        lines = (json.dumps({"prompt": prompt}) + "\n" for prompt in prompts)
        (tmp_path / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")
    told: list[str] = []
    files = (f"prompts.files=[{tmp_path}/given.jsonl]", f"prompts.avoid=[{tmp_path}/measured.jsonl]")
    run = toy_run(toy_config(tmp_path), monkeypatch, told.append, "prompts.sampled=0", *files)
    collect_prompts(run, [], 0)
    assert texts(run.out / "prompts.jsonl") == ["say 1"]
    assert told == ["2 of 3 prompts are left out: they repeat some of prompts.avoid"]
    run = toy_run(
        toy_config(tmp_path),
        monkeypatch,
        told.append,
        "prompts.sampled=0",
        *files[1:],
        files[1].replace("avoid", "files"),
    )
    with pytest.raises(
        InputError, match=r"2 of 2 prompts are left out: .* prompts.avoid; name others in prompts.files"
    ):
        collect_prompts(run, [], 0)
