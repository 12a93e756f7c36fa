"""docs/tools/tree_picture.py draws each token once, where no other is; test_generated_pages.py holds its file."""

from __future__ import annotations

import runpy
import xml.etree.ElementTree as ElementTree
from typing import Any

import pytest
from docs_pages import ROOT
from hypothesis import given
from hypothesis import strategies as st


@pytest.fixture(scope="module")
def program() -> dict[str, Any]:
    return runpy.run_path(str(ROOT / "docs" / "tools" / "tree_picture.py"))


@st.composite
def trees(draw: st.DrawFn) -> dict[str, Any]:
    parents = [draw(st.integers(-1, index - 1)) for index in range(draw(st.integers(1, 40)))]
    tokens = [draw(st.sampled_from(["a", " the", "<b>", "\n", "é", " "])) for _ in parents]
    last = draw(st.integers(-1, len(parents) - 1))
    return {"text": "so & so <far>", "tokens": tokens, "parents": parents, "last": last}


@given(trees())
def test_every_token_is_drawn_once_in_the_colour_of_its_fate(program: dict[str, Any], tree: dict[str, Any]) -> None:
    drawn = ElementTree.fromstring(program["drawing"](tree))
    words = [each for each in drawn.iter() if each.tag.endswith("text")][2:]  # the first two say what it is
    places = {(each.get("x"), each.get("y")) for each in words}
    assert len(places) == len(words) == len(tree["tokens"]) + 1
    kept, last = 0, tree["last"]
    while last >= 0:
        kept, last = kept + 1, tree["parents"][last]
    colors = [each.get("fill") for each in words]
    wanted = {"kept": kept, "anchor": 1, "refused": len(words) - kept - 1}
    assert {name: colors.count(program["COLORS"][name]) for name in wanted} == wanted
    lines = [each for each in drawn.iter() if each.tag.endswith("path")]
    assert len(lines) == len(tree["tokens"])  # each to its parent
