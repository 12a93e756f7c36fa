"""Texts where a path is expected, pipes, and files that use each other: one sentence, or what they hold."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
from support.program import InProcess

from orthrus import InputError, path_exists, read_prompts
from orthrus.config.compose import MOST_LAYERS, read_layers

LONG = "a prompt that was given to --prompts and not to --prompt, " * 6
TABLE = "target: {name: table}\ncache: {name: dynamic}\ndrafter: {name: none}\nstop: {max_new_tokens: 4}\n"
RUN = ["run", "--config", "table.yaml"]
CASES = {
    "prompts": [*RUN, "--prompts", LONG],
    "config": ["run", "--config", LONG, "--prompt", "abc"],
    "validate": ["validate", LONG],
    "fetch": ["fetch", LONG],
    "convert": ["convert", LONG, "view"],
    "convert to": ["convert", "model", LONG],
    "bench out": ["bench", "--config", "table.yaml", "--context", "4", "--out", LONG],
    "report": ["report", LONG, "--out", "report.md"],
    "report out": ["report", "table.yaml", "--out", LONG],
    "view": [*RUN, "--prompt", "abc", f"drafter={{name: diffusion, view: '{LONG}'}}"],
    "source": [*RUN, "--prompt", "abc", f"target={{name: transformers, source: '{LONG}'}}", "attention={name: sdpa}"],
    "training out": ["train", "--config", "train.yaml"],
    "zero byte": [*RUN, "--prompts", "a\0b"],
    "batch": [*RUN, "--prompt", "abc", "--batch", "9" * 30],
    "slots": [*RUN, "--prompt", "abc", "--json", "cache={name: static, slots: 1000000000000}"],
}


@pytest.mark.parametrize("case", CASES)
def test_a_long_text_is_no_path(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, orthrus: InProcess) -> None:
    monkeypatch.chdir(tmp_path)
    Path("table.yaml").write_text(TABLE)
    Path("train.yaml").write_text(f"{TABLE}training: {{out: '{LONG}', mask_token_id: 3}}\n")
    said = orthrus(*CASES[case]).error()
    assert "--debug shows" not in said
    assert len(said) < 500


@pytest.mark.parametrize("text", ["'on'\n", "1\n", "[1]\n"])
def test_a_config_that_is_a_single_value_or_list(text: str, tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text(text)
    [problem] = read_layers(tmp_path / "run.yaml")[1]
    assert problem.message.startswith("must be a mapping")


@pytest.mark.parametrize("used", ["x" * 300, "~nobody-at-all/x.yaml"])
def test_what_is_used_and_can_be_no_file(used: str, tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text(f"use: ['{used}']\nseed: 1\n")
    layers, [problem] = read_layers(tmp_path / "run.yaml")
    assert problem.key == "use"
    assert layers[-1].values == {"seed": 1}


def test_files_that_use_the_next_one_twice_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(60):
        (tmp_path / f"{number}.yaml").write_text(f"use: [{number + 1}.yaml, {number + 1}.yaml]\nseed: {number}\n")
    (tmp_path / "60.yaml").write_text("seed: 60\n")
    [problem, *_] = read_layers(tmp_path / "0.yaml")[1]
    assert f"more than {MOST_LAYERS} files" in problem.message
    layers, problems = read_layers(tmp_path / "57.yaml")
    assert (len(layers), problems, layers[-1].values) == (15, [], {"seed": 57})


def test_a_chain_without_end_is_one_sentence(tmp_path: Path) -> None:
    for number in range(1200):
        (tmp_path / f"{number}.yaml").write_text(f"use: [{number + 1}.yaml]\n")
    [problem] = read_layers(tmp_path / "0.yaml")[1]
    assert "over more than" in problem.message


def piped(path: Path, text: bytes) -> Path:
    os.mkfifo(path)
    threading.Thread(target=path.write_bytes, args=(text,), daemon=True).start()
    return path


def test_prompts_come_through_a_pipe(tmp_path: Path) -> None:
    [record] = read_prompts(piped(tmp_path / "pipe", b'\xef\xbb\xbf{"prompt": "abc"}\n'))
    assert (record.id, record.prompt) == ("1", "abc")


def test_what_is_no_regular_file_is_said_to_be_none(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no prompts"):
        read_prompts(Path(os.devnull))
    [problem] = read_layers(Path(os.devnull))[1]
    assert "is no regular file" in problem.message


def test_a_text_is_no_path_and_a_folder_is_one(tmp_path: Path) -> None:
    assert path_exists(tmp_path)
    assert not any(map(path_exists, [LONG, "a\0b", "~nobody-at-all", tmp_path / "no"]))
