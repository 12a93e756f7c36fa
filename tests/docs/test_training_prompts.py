"""The program that writes prompts for training: functions to complete, and questions with other numbers."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.view_programs import example

SOURCE = '''
from typing import List

def doubled(values: List[int]) -> List[int]:
    """Return every value twice as large, in the same order.

    Parameters
    ----------
    values : of what

    Examples
    --------
    >>> doubled([1])
    [2]

    >>> doubled([])
    """
    return [2 * value for value in values]

def _hidden(): """Nobody is to see this function, however well it is described."""

def short():
    """Too little said."""

class Held:
    def method(self):
        """Be left out, for a method needs the class around it."""
'''
TASK = '''Complete the following Python function.

from typing import List


def doubled(values: List[int]) -> List[int]:
    """ Return every value twice as large, in the same order.
    >>> doubled([1])
    [2]
    """
'''


@pytest.fixture(scope="module")
def program() -> ModuleType:
    return example("training_prompts")


def prompts(file: Path) -> list[str]:
    return [json.loads(line)["prompt"] for line in file.read_text(encoding="utf-8").splitlines()]


def test_documented_functions_become_tasks(program: ModuleType, tmp_path: Path) -> None:
    source, out = tmp_path / "source", tmp_path / "out.jsonl"
    (source / "tests").mkdir(parents=True)
    (source / "one.py").write_text(SOURCE, encoding="utf-8")
    (source / "tests" / "other.py").write_text(SOURCE.replace("doubled", "tested"), encoding="utf-8")
    (source / "broken.py").write_text("def (", encoding="utf-8")
    assert program.main(["functions", str(source), "--out", str(out)]) == 0
    assert prompts(out) == [TASK]


def test_numbers_are_changed_and_nothing_else(program: ModuleType, tmp_path: Path) -> None:
    asked, out = tmp_path / "asked.jsonl", tmp_path / "out.jsonl"
    question = "In 1999 Ann had 12 pens, 1 cap and 3.5 litres; she gave 5 of the 12 away. How many of $40 are left?"
    asked.write_text(
        "".join(json.dumps({"prompt": asked_prompt}) + "\n" for asked_prompt in (question, "no digits")),
        encoding="utf-8",
    )
    assert program.main(["numbers", str(asked), "--times", "3", "--out", str(out)]) == 0
    written = prompts(out)
    assert len(written) == 3
    assert {re.sub(r"\b(?!1\b|3\.5|5 l|1999)\d+", "#", prompt) for prompt in written} == {
        "In 1999 Ann had # pens, 1 cap and 3.5 litres; she gave # of the # away. How many of $# are left?"
    }
    values = [[int(value) for value in re.findall(r"\d+", prompt) if value not in ("1", "1999")] for prompt in written]
    values = [[a, c, d, e] for a, _, _, c, d, e in values]  # without 3.5
    assert all(
        numbers[0] == numbers[2] and 5 <= numbers[0] <= 30 and 2 <= numbers[1] <= 12 and 16 <= numbers[3] <= 100
        for numbers in values
    )
    assert len({tuple(numbers) for numbers in values}) > 1


@given(st.text(alphabet="a1 290.,/$", max_size=30), st.integers())
def test_whatever_stands_between_numbers_stays(program: ModuleType, text: str, seed: int) -> None:
    changed = program.with_other_numbers(text, random.Random(seed))
    assert re.split(r"\d+", changed) == re.split(r"\d+", text)


def test_bad_input_is_told(program: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "out.jsonl")
    assert program.main(["functions", str(tmp_path / "gone"), "--out", out]) == 2
    assert "is no folder" in capsys.readouterr().err
    assert program.main(["numbers", str(tmp_path / "gone.jsonl"), "--out", out]) == 2
    assert "does not exist" in capsys.readouterr().err
    (tmp_path / "broken.py").symlink_to(tmp_path / "gone.py")
    assert program.main(["functions", str(tmp_path), "--out", str(tmp_path / "no" / "out.jsonl")]) == 2
    assert "No such file or directory" in capsys.readouterr().err
