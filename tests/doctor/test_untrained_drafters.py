"""Drafters of published formats that were never trained: nothing helps, and every trial keeps the target's text."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml
from support.program import InProcess
from support.published import DATA, installed
from support.thorough import thorough_but
from support.trainable import LETTERS, put_tokenizer

FIXTURES = [
    ("dflash", "tiny-dflash-qwen3", "drafter-full"),
    ("dflash", "tiny-dflash-qwen3", "drafter-full-speculators"),
    ("eagle3", "tiny-eagle3-llama", "head-reduced"),
    ("eagle3", "tiny-eagle3-llama", "head-3.1-speculators"),
]


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    file = tmp_path / "prompts.jsonl"
    file.write_text("".join(json.dumps({"prompt": text}) + "\n" for text in ("abc", "QZ", "nopq")))
    return file


def config(folder: Path, kind: str, fixture: str, name: str) -> Path:
    """Write a config of a recorded drafter, whose target gets a tokenizer of letters."""
    shutil.copytree(DATA / fixture / "target", folder / "target")
    put_tokenizer(folder / "target", letters=LETTERS[:95])
    values = {
        "target": {"name": "transformers", "source": str(folder / "target"), "dtype": "float32", "device": "cpu"},
        "attention": {"name": "sdpa"},
        "cache": {"name": "dynamic"},
        "drafter": {"name": kind, "source": str(installed(DATA / fixture, name, folder))},
        "stop": {"max_new_tokens": 6},
    }
    (folder / "run.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    return folder / "run.yaml"


@pytest.mark.parametrize(("kind", "fixture", "name"), thorough_but(FIXTURES[:1], FIXTURES))
def test_nothing_helps(kind: str, fixture: str, name: str, prompts: Path, tmp_path: Path, orthrus: InProcess) -> None:
    file = config(tmp_path, kind, fixture, name)
    told = orthrus("doctor", "--config", file, "--prompts", prompts, "--json").json()
    assert told["best"] is None
    tried = [trial for trial in told["trials"] if trial["refused"] is None]
    assert len(tried) >= 8
    assert {trial["identical"] for trial in tried if "drafter" in trial["write"]} == {3}
