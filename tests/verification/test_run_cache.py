"""Decoded runs that are kept: found again if nothing changed that decides them, and otherwise decoded."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.program import TABLE, InProcess, Outcome
from support.thorough import thorough_but

from orthrus.config.compose import ConfigSource
from orthrus.config.schema import load_config
from orthrus.decoder import Decoder
from orthrus.files import WriteError
from orthrus.registry.plugins import Plugins
from orthrus.verification import run_cache
from orthrus.verification.certifier import Runs
from orthrus_drafters.none import NoDrafter

PROMPTS = [("one", "abc"), ("other", "hgfedcba")]


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    file = tmp_path / "prompts.jsonl"
    file.write_text("".join(json.dumps({"id": id, "prompt": text}) + "\n" for id, text in PROMPTS), encoding="utf-8")
    return file


@pytest.fixture
def verify(prompts: Path, tmp_path: Path, orthrus: InProcess) -> Any:
    def run(*more: object) -> Outcome:
        flags = ("--config", TABLE, "--prompts", prompts, "--batch", "1,8", "--keep", tmp_path / "kept", "--json")
        done = orthrus("verify", *flags, *more)
        assert done.code == 0
        return done

    return run


@pytest.fixture(scope="module")
def first_runs() -> dict[str, Any]:
    """Return what the first test to need them has put there: what was said, and the files that were kept."""
    return {}


@pytest.fixture
def kept(verify: Any, tmp_path: Path, first_runs: dict[str, Any]) -> Outcome:
    """Return what was said when the runs were decoded; copies of their files are in the folder."""
    folder = tmp_path / "kept"
    if not first_runs:
        said = verify()
        files = {file.name: file.read_text(encoding="utf-8") for file in folder.iterdir()}
        first_runs.update(said=said, files=files)
        shutil.rmtree(folder)
    folder.mkdir()
    for name, text in first_runs["files"].items():
        (folder / name).write_text(text, encoding="utf-8")
    said = first_runs["said"]
    assert isinstance(said, Outcome)
    return said


def refuse(*_: object, **__: object) -> None:
    raise AssertionError("decoded again")


def test_kept_runs_are_certified_without_decoding(
    verify: Any, kept: Outcome, first_runs: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the tests below begin with is found: it is a change that has runs decoded there."""
    assert kept.err.count("decoded, kept in") == len(first_runs["files"]) == 2
    monkeypatch.setattr(Decoder, "generate", refuse)
    again = verify()
    assert again.err.count("not decoded again") == 2
    assert again.json()["runs"] == kept.json()["runs"]


@pytest.mark.parametrize("change", thorough_but(["seed=1"], ["seed=1", "stop.max_new_tokens=7", "drafter.name=none"]))
def test_another_config_is_decoded(change: str, verify: Any, kept: Outcome) -> None:
    assert verify(change).err.count("decoded, kept in") == 2


def test_other_prompts_are_decoded(verify: Any, kept: Outcome, prompts: Path) -> None:
    prompts.write_text(prompts.read_text(encoding="utf-8").replace("abc", "abd"), encoding="utf-8")
    assert verify().err.count("decoded, kept in") == 2


def test_other_code_is_decoded(verify: Any, kept: Outcome, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_cache, "code_digest", lambda modules: "another")
    assert verify().err.count("decoded, kept in") == 2


def test_the_code_of_every_part_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "some_part"
    package.mkdir()
    for name in ("__init__", "drafter"):
        (package / f"{name}.py").write_text("", encoding="utf-8")
    (tmp_path / "some_module.py").write_text("", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)

    def digest() -> str:
        return run_cache.code_digest(["some_part.drafter", "some_module"])

    digests = {digest()}
    for file in (package / "drafter.py", package / "__init__.py", tmp_path / "some_module.py"):
        file.write_text("changed = True", encoding="utf-8")
        digests.add(digest())
    assert len(digests) == 4


@pytest.mark.parametrize("damage", thorough_but([""], ["", "{", "[]", '{"format": 1}']))
def test_a_damaged_run_is_told_of_and_decoded(damage: str, verify: Any, kept: Outcome, tmp_path: Path) -> None:
    for file in (tmp_path / "kept").iterdir():
        file.write_text(damage or file.read_text(encoding="utf-8")[:-9], encoding="utf-8")
    again = verify()
    assert again.err.count("is damaged; it is decoded again") == 2
    assert again.json()["runs"] == kept.json()["runs"]


def test_what_is_kept_is_judged_anew(kept: Outcome, tmp_path: Path, prompts: Path, orthrus: InProcess) -> None:
    for file in (tmp_path / "kept").iterdir():
        held = json.loads(file.read_text(encoding="utf-8"))
        held["answers"][0]["token_ids"][3] += 1  # as a run would have it whose verifier let something pass
        file.write_text(json.dumps(held), encoding="utf-8")
    flags = ("--config", TABLE, "--prompts", prompts, "--batch", "1,8", "--keep", tmp_path / "kept", "--json")
    assert orthrus("verify", *flags).code == 1


def test_a_folder_that_cannot_be_is_refused_before_anything_is_decoded(
    prompts: Path, tmp_path: Path, orthrus: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Decoder, "generate", refuse)
    (tmp_path / "file").write_text("", encoding="utf-8")
    done = orthrus("verify", "--config", TABLE, "--prompts", prompts, "--keep", tmp_path / "file")
    assert "--keep: nothing can be written to" in done.error()


def test_a_full_disk_loses_nothing_but_the_copy(verify: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, text: str) -> None:
        raise WriteError(path, "No space left on device")

    monkeypatch.setattr(run_cache, "write_whole", full)
    assert verify().err.count("(No space left on device); the next time it is decoded again") == 2


class Weighty(NoDrafter):
    """Be a drafter with weights of its own."""

    def __init__(self, weights: str) -> None:
        self.weights = weights

    def fingerprint(self) -> str:
        return self.weights


def test_weights_prompts_and_batch_count() -> None:
    session = Plugins.load()
    config = load_config(TABLE, [ConfigSource("none", {})], session)
    decoder = Runs(session, PROMPTS).decoder(config)

    def identity(batch: int = 1, prompts: Any = PROMPTS, weights: str = "some", seed: int = 0) -> dict[str, Any]:
        drawn = replace(decoder, drafter=Weighty(weights))
        return run_cache.identity_of(replace(config, seed=seed), batch, prompts, None, drawn)

    others = [identity(batch=2), identity(prompts=PROMPTS[:1]), identity(weights="other"), identity(seed=3)]
    assert identity() not in others
    assert identity() == identity()
    as_tokens = [(id, decoder.encode(prompt, id, None)) for id, prompt in PROMPTS]
    assert identity(prompts=as_tokens) == identity()
