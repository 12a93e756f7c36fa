"""The page of the server lists every metric, and the fields that are taken only where they ask for nothing."""

from __future__ import annotations

import asyncio
import json

from support.program import ROOT

from orthrus_serve.metrics import Metrics
from orthrus_serve.wire.neutral import NEUTRAL

PAGE = (ROOT / "docs" / "guide" / "serving.md").read_text(encoding="utf-8")


def rows(mark: str) -> list[list[str]]:
    """Return the cells of the table behind a mark, without its header."""
    lines = PAGE.partition(f"<!-- {mark} -->\n")[2].partition("\n\n")[0].splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_every_metric_is_on_the_page() -> None:
    lines = asyncio.run(Metrics("letters", None).page(vllm=False)).decode().splitlines()
    helped = [line.removeprefix("# HELP ").partition(" ") for line in lines if line.startswith("# HELP ")]
    shown = [[f"`{name.removesuffix('_total')}`", text] for name, _, text in helped]
    assert [row for row in shown if not row[0].endswith("_created`")] == rows("metrics")


def test_every_neutral_field_is_on_the_page() -> None:
    wanted = [[f"`{name}`", ", ".join(f"`{json.dumps(value)}`" for value in taken)] for name, taken in NEUTRAL.items()]
    assert rows("neutral fields") == wanted
