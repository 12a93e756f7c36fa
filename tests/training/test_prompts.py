"""Which prompts are held out for eval, and that none of them is trained on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.toy import toy_config, toy_run

from orthrus import InputError
from orthrus_diffusion.training.prompts import _put_together


def texts(file: Path) -> list[str]:
    return [json.loads(line)["prompt"] for line in file.read_text(encoding="utf-8").splitlines()]


def test_prompts_of_files_alone_are_held_out_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = tmp_path / "given.jsonl"
    given.write_text("".join(json.dumps({"prompt": f"say {index % 5}"}) + "\n" for index in range(9)), encoding="utf-8")
    run = toy_run(toy_config(tmp_path), monkeypatch, print, "prompts.sampled=0", f"prompts.files=[{given}]")
    _put_together(run, [], 2)
    held_out, kept = texts(run.out / "held-out.jsonl"), texts(run.out / "prompts.jsonl")
    assert (len(held_out), len(kept)) == (2, 3)
    assert not set(held_out) & set(kept)
    with pytest.raises(InputError, match="there are 5 prompts, of which eval holds out 5"):
        _put_together(run, [], 5)
