"""The site's navigation, its page of docstrings, and the README's picture of a terminal."""

from __future__ import annotations

import pydoc
import runpy
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

import pytest
import yaml
from docs_pages import ROOT, page, pages

import orthrus
from orthrus import drafter_models, files, interfaces, optional, progress, rounding

EXPLAINED = {"hookimpl", "TapPoint"}  # in a sentence and on the page of hooks
WHOLE = {
    orthrus.errors.__name__,
    interfaces.__name__,
    optional.__name__,
    rounding.__name__,
    files.__name__,
    progress.__name__,
    *(f"{drafter_models.__name__}.{module.name}" for module in iter_modules(drafter_models.__path__)),
}  # modules of which every name is shown


def shown() -> list[str]:
    """Return what the page of docstrings shows."""
    lines = page("docs/reference/python.md").text.splitlines()
    return [line.removeprefix("::: ") for line in lines if line.startswith("::: ")]


def test_every_public_name_is_on_the_page_of_docstrings() -> None:
    parts = [name for name in shown() if name not in WHOLE]
    whole = {name for name in orthrus.__all__ if getattr(getattr(orthrus, name), "__module__", "") in WHOLE}
    assert {name.rpartition(".")[2] for name in parts} | whole | EXPLAINED == set(orthrus.__all__)
    assert [name for name in parts if pydoc.locate(name) is not getattr(orthrus, name.rpartition(".")[2])] == []
    assert set(shown()) >= WHOLE


def nav_pages(entries: list[Any]) -> list[str]:
    """Return the pages of a navigation, its sections' too."""
    listed: list[str] = []
    for entry in entries:
        listed += [entry] if isinstance(entry, str) else nav_pages(next(iter(entry.values())))
    return listed


def test_navigation_has_every_page() -> None:
    config = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    left_out = tuple(config["exclude_docs"].split())
    names = [str(page.path.relative_to(ROOT / "docs")) for page in pages() if page.path.is_relative_to(ROOT / "docs")]
    assert sorted(nav_pages(config["nav"])) == sorted(name for name in names if not name.startswith(left_out))


@pytest.fixture(scope="module")
def program() -> dict[str, Any]:
    return runpy.run_path(str(ROOT / "docs" / "tools" / "terminal_picture.py"))


def test_picture_has_accepted_drafts_in_green(program: dict[str, Any]) -> None:
    recipe, prompt, override = program["TABLE"]
    svg = program["picture"](recipe, prompt, override)
    assert f"{recipe}.yaml" in svg.replace("&#160;", " ")
    assert "#4ade80" in svg
    assert "url(http" not in svg and "font-face" not in svg
    assert svg == program["picture"](recipe, prompt, override)


def test_picture_of_the_readme_is_of_the_models_command(program: dict[str, Any]) -> None:
    path: Path = program["FOUND"]
    svg = path.read_text(encoding="utf-8").replace("&#160;", " ")
    recipe, prompt, override = program["MODEL"]
    assert all(words in svg for words in (recipe, prompt, override, "#4ade80"))
    assert f"({path.relative_to(ROOT)})" in page("README.md").text
