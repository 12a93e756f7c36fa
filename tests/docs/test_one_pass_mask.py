"""docs/tools/one_pass_mask.py draws what the rows of one pass see; test_generated_pages.py holds the picture to it."""

from __future__ import annotations

import runpy
import xml.etree.ElementTree as ElementTree
from typing import Any

import pytest
from docs_pages import ROOT


@pytest.fixture(scope="module")
def program() -> dict[str, Any]:
    return runpy.run_path(str(ROOT / "docs" / "tools" / "one_pass_mask.py"))


def test_rows_see_what_the_words_say(program: dict[str, Any]) -> None:
    """Scored rows are causal; a block sees the text before its first token, and itself: the mask of training."""
    committed, blocks = program["COMMITTED"], program["BLOCKS"]
    rows = program["drawn"]()
    before = committed + blocks.count
    for row, seen in enumerate(rows[: blocks.count]):
        assert seen == [slot <= committed + row for slot in range(len(seen))]
    for row, seen in enumerate(rows[blocks.count :]):
        block = row // blocks.size
        text = [slot < committed + block for slot in range(before)]
        assert seen == text + [own // blocks.size == block for own in range(blocks.columns)]


def test_every_square_has_the_colour_of_what_is_seen(program: dict[str, Any]) -> None:
    squares = [
        element for element in ElementTree.fromstring(program["drawing"]()).iter() if element.get("width") == "17"
    ]
    drawn = [square.get("fill") for square in squares][:-4]  # the legend's come last
    wanted = [
        program["COLORS"][program["kind"](slot, seen)] for row in program["drawn"]() for slot, seen in enumerate(row)
    ]
    assert drawn == wanted
