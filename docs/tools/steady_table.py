"""Writes what equal bits cost into docs/explanation/lossless.md, of docs/tools/steady_costs.py and product_tiles.py.

    python docs/tools/steady_table.py --write

Without `--write` it prints the page.
"""

from __future__ import annotations

import json
import re
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parents[1]
COSTS = DOCS / "evidence" / "steady-costs.json"
TILES = tuple(DOCS / "evidence" / f"product-tiles{which}.txt" for which in ("", "-80-96", "-135m"))
PAGE = DOCS / "explanation" / "lossless.md"
BEGIN, END = "<!-- steady costs -->\n", "<!-- end -->"
ONE_TILE = 64  # tokens of the largest tile of passes that score
SCORED, PREFILLS = 1.1, 1.3  # the most that passes should take, over those that are laid out for speed
TILE = re.compile(r"(\d+x\d+x\d+ \d+w \d+s) +bits (True|False)")


def page(text: str) -> str:
    """Return the page with what the records hold in its place."""
    before, marked, rest = text.partition(BEGIN)
    assert marked, "the page has no place for the records"
    tiles = "".join(path.read_text(encoding="utf-8") for path in TILES)
    written = lines(json.loads(COSTS.read_text(encoding="utf-8")), tiles)
    return before + BEGIN + "\n" + "\n".join(written) + "\n\n" + END + rest.partition(END)[2]


def lines(record: Mapping[str, Any], tiles: str) -> Iterator[str]:
    """Yield the lines of the section."""
    yield filled(
        f"{record['date']}: {record['device']}, torch {record['torch']}; {record['dtype']}, batch {record['batch']},"
        " 14 of the 28 layers of Qwen3-1.7B's shape and 9 of the 36 of 8B's, and as large a part of the output head,"
        " random weights. Each pass is a CUDA graph. A tree's anchor is among its tokens. Of the ratios of turns the"
        f" median, and the ends of the lowest and of the highest quarter; by `{record['command']}`."
    )
    yield ""
    yield "| shape | pass | laid out for speed, ms | steady, ms | steady over that | steady attention alone over that |"
    yield "|---|---|---|---|---|---|"
    yield from map(row, record["passes"])
    yield ""
    yield filled(bars(record["passes"]))
    yield ""
    yield filled(tiles_sentence(tiles))


def filled(text: str) -> str:
    """Return a paragraph in lines."""
    return textwrap.fill(text, 120, break_long_words=False, break_on_hyphens=False)


def row(measured: Mapping[str, Any]) -> str:
    """Return a row of the table."""
    after = f" after {measured['context']:,}" if measured["context"] else ""
    name = f"{measured['kind']} of {measured['tokens']:,}{after}"
    times, ratios = measured["milliseconds"], measured["ratios"]
    spreads = [spread(ratios[way]) if way in ratios else "" for way in ("steady", "attention alone")]
    return f"| {measured['shape']} | {name} | {times['without']:.2f} | {times['steady']:.2f} | {' | '.join(spreads)} |"


def spread(quarters: Sequence[float]) -> str:
    """Return a median and the quarters' ends beside it."""
    low, middle, high = quarters
    return f"{middle:.3f} ({low:.3f} to {high:.3f})"


def bars(passes: Sequence[Mapping[str, Any]]) -> str:
    """Return which passes take no more than they should."""

    def some(kind: str, more: bool = False) -> list[Mapping[str, Any]]:
        return [each for each in passes if each["kind"] == kind and (each["tokens"] > ONE_TILE) is more]

    groups = (
        (f"chains of up to {ONE_TILE} tokens", some("chain"), SCORED),
        (f"chains of {ONE_TILE + 1}", some("chain", True), SCORED),
        (f"trees of {ONE_TILE}", some("tree"), SCORED),
        (f"trees of {ONE_TILE + 1}", some("tree", True), SCORED),
        ("prefills", some("prefill", True), PREFILLS),
    )
    told = "; ".join(judged(name, group, most) for name, group, most in groups)
    return f"Scored passes should take at most {SCORED} times as long, prefills {PREFILLS}: {told}. {alike(passes)}"


def judged(name: str, passes: Sequence[Mapping[str, Any]], most: float) -> str:
    """Return the range of the medians, and whether all are within the bar."""
    medians = [round(each["ratios"]["steady"][1], 3) for each in passes]
    within = sum(median <= most for median in medians)
    met = "met" if within == len(medians) else f"**not met**, but by {within} of {len(medians)}"
    return f"{name} {min(medians):.3f} to {max(medians):.3f} ({met})"


def alike(passes: Sequence[Mapping[str, Any]]) -> str:
    """Return of how many passes some logits were those that their tokens have alone; trees are not looked at."""
    compared = [each["equal"]["steady"] for each in passes if each["equal"]["steady"] is not None]
    return (
        f"In {sum(compared)} of {len(compared)} chains and prefills logits were those of the tokens alone, to the bit."
    )


def tiles_sentence(text: str) -> str:
    """Return how many tiles gave the bits of the smallest one."""
    compared = TILE.findall(text)
    equal = sum(bits == "True" for _, bits in compared)
    return (
        f"Tiles: {equal} of {len(compared)} products by {len({tile for tile, _ in compared})} tiles had the bits that a"
        " token has alone by the smallest one. The records are what `product_tiles.py` printed:"
        " `docs/evidence/product-tiles.txt` until an error of its own, mended since, ended it at products of one token,"
        " `product-tiles-80-96.txt` with `--tokens 80 96`, and `product-tiles-135m.txt` with `--model 135m --tokens 544"
        " 160 288 1056 64`, less the tiles whose columns do not divide the outputs, which are left out since."
    )


if __name__ == "__main__":
    made = page(PAGE.read_text(encoding="utf-8"))
    if "--write" in sys.argv:
        PAGE.write_text(made, encoding="utf-8")
    else:
        sys.stdout.write(made)
