"""docs/tools/dual_mask.py draws what the paper says queries see; test_generated_pages.py holds the picture to it."""

from __future__ import annotations

import runpy
import xml.etree.ElementTree as ElementTree
from typing import Any

import pytest
from docs_pages import ROOT

DOCS = ROOT / "docs"


@pytest.fixture(scope="module")
def program() -> dict[str, Any]:
    return runpy.run_path(str(DOCS / "tools" / "dual_mask.py"))


def test_a_query_sees_its_text_before_the_anchor_and_its_block(program: dict[str, Any]) -> None:
    starts, anchors, block = program["STARTS"], program["ANCHORS"], program["BLOCK"]
    rows, blocks = program["masks"]()
    for query, row in enumerate(rows.tolist()):
        assert row == [starts[query] <= slot <= query for slot in range(len(starts))]
    for query, row in enumerate(blocks.tolist()):
        anchor = anchors[query // block]
        text = [starts[anchor] <= slot < anchor for slot in range(len(starts))]
        assert row == text + [own // block == query // block for own in range(len(anchors) * block)]


def test_every_square_has_the_colour_of_what_is_seen(program: dict[str, Any]) -> None:
    squares = [
        element for element in ElementTree.fromstring(program["drawing"]()).iter() if element.get("width") == "17"
    ]
    drawn = [square.get("fill") for square in squares][:-3]  # the legend's come last
    length = len(program["STARTS"])
    wanted = [
        program["COLORS"]["nothing" if not seen else "text" if slot < length else "block"]
        for mask in program["masks"]()
        for row in mask.tolist()
        for slot, seen in enumerate(row)
    ]
    assert drawn == wanted
