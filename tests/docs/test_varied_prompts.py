"""The program that writes prompts of many kinds for training: all kinds, each prompt once, and the same with a seed."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.view_programs import example

PROSE = (
    "The lighthouse stood at the end of a long pier, which {} nobody had walked along for a winter and a spring, for"
    " nobody knew the way."
)
CODE = 'def first():\n    """{}"""\n\n\nclass Broken:\n'


@pytest.fixture(scope="module")
def program() -> ModuleType:
    return example("varied_prompts")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    texts = tmp_path / "texts"
    texts.mkdir()
    (texts / "story.md").write_text("\n\n".join(["# Title", *(PROSE.format(word) for word in "abc"), "| a | b |"]))
    (texts / "source.py").write_text(CODE.format(PROSE.format("d")).removesuffix("class Broken:\n"))
    (texts / "broken.py").write_text(CODE.format(PROSE.format("e")) + "\n  ]")
    return texts


def test_passages_are_prose_of_texts_and_docstrings(program: ModuleType, folder: Path) -> None:
    assert sorted(program.read_passages([folder])) == [PROSE.format(word) for word in "abcd"]


@given(st.integers(20, 90), st.integers(0, 9))
def test_every_kind_comes_as_often_and_no_prompt_twice(program: ModuleType, most: int, seed: int) -> None:
    passages = [PROSE.format(number) for number in range(60)]
    prompts = program.make_prompts(passages, most, seed)
    assert prompts == program.make_prompts(passages, most, seed) != program.make_prompts(passages, most, seed + 1)
    assert len({text for _, text in prompts}) == len(prompts) == most
    counts = Counter(kind for kind, _ in prompts)
    assert counts.keys() == program.KINDS.keys() and max(counts.values()) - min(counts.values()) <= 3


def test_the_file_is_one_of_prompts(program: ModuleType, folder: Path, tmp_path: Path) -> None:
    assert program.main([str(folder), "--most", "30", "--out", str(tmp_path / "varied.jsonl")]) == 0
    lines = [json.loads(line) for line in (tmp_path / "varied.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len(lines) == 30 and all(line["prompt"].strip() for line in lines)


@pytest.mark.parametrize(("name", "sentence"), [("gone", "is no folder"), ("empty", "there are 0 passages of prose")])
def test_folders_that_give_nothing(
    name: str, sentence: str, program: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    assert program.main([str(tmp_path / name), "--out", str(tmp_path / "varied.jsonl")]) == 2
    assert sentence in capsys.readouterr().err and not (tmp_path / "varied.jsonl").exists()
