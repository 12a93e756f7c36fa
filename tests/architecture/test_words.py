"""Module docstrings begin with the name of a thing, and not with a question."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from support.program import ROOT

QUESTIONS = {"What", "How", "Which", "Where", "Who", "Whose", "Whether", "When"}


def questions(folder: Path) -> list[str]:
    """Return the modules below a folder whose docstring begins with a question word."""
    return [
        f"{file.relative_to(folder)} begins with '{first}': name the thing"
        for file in sorted(folder.rglob("*.py"))
        if (first := first_word(file)) in QUESTIONS
    ]


def first_word(file: Path) -> str:
    docstring = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
    return "".join(docstring.split()[:1]).partition("'")[0].rstrip(",.:;")


@pytest.mark.parametrize("folder", ["orthrus", "plugins"])
def test_modules_begin_with_the_name_of_a_thing(folder: str) -> None:
    assert questions(ROOT / folder) == []
    assert first_word(ROOT / folder / ("errors.py" if folder == "orthrus" else "orthrus_caches/__init__.py"))


@pytest.mark.parametrize("sentence", ["What drafts must be.", "How's it done?", "Where, if anywhere."])
def test_a_question_is_noticed(sentence: str, tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "planted.py").write_text(f'"""{sentence}"""\n', encoding="utf-8")
    (tmp_path / "named.py").write_text('"""Whatever is named. What follows is free."""\n', encoding="utf-8")
    (tmp_path / "silent.py").write_text("", encoding="utf-8")
    [complaint] = questions(tmp_path)
    assert complaint.startswith("inner/planted.py begins with")
