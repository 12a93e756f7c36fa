"""Draws docs/explanation/dual-mask.svg, what queries see in training: `python docs/tools/dual_mask.py`.

One packed row holds two texts; three blocks of a view are trained in it. The squares are what the masks of
orthrus_transformers.training.masks say, for the frozen model's pass and for the view's.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch import Tensor

from orthrus_transformers.training.masks import dense, seen_by_blocks, seen_in_rows

sys.path.insert(0, str(Path(__file__).parent))
from mask_squares import SIDE, square, text  # its neighbour, wherever it is run from

OUT = Path(__file__).parents[1] / "explanation" / "dual-mask.svg"
STARTS = (0,) * 7 + (7,) * 5  # where the text of each column begins
ANCHORS, BLOCK = (2, 4, 9), 4
LEFT, TOP = 150, 62
COLORS = {"nothing": "#f2f2f2", "text": "#56B4E9", "block": "#E69F00"}


def masks() -> tuple[Tensor, Tensor]:
    """Return what the columns of the row see [L, L], and what the queries of the blocks see [N K, L + N K]."""
    starts, anchors = torch.tensor([STARTS]), torch.tensor([ANCHORS])
    length, queries = len(STARTS), len(ANCHORS) * BLOCK
    cpu = torch.device("cpu")
    rows = dense(seen_in_rows(starts, None), 1, length, length, cpu)[0, 0]
    seen = seen_by_blocks(starts.gather(1, anchors), anchors, BLOCK, length, None)
    return rows, dense(seen, 1, queries, length + queries, cpu)[0, 0]


def drawing() -> str:
    """Return the picture: the model's mask above, the view's below it."""
    rows, blocks = masks()
    length = len(STARTS)
    below = TOP + len(rows) * SIDE + 70
    width, height = LEFT + blocks.shape[1] * SIDE + 60, below + len(blocks) * SIDE + 66
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif"'
        ' font-size="12">',
        "<title>What queries see in the two passes of training</title>",
        '<rect width="100%" height="100%" fill="white"/>',
        text(LEFT, TOP - 40, "pass 1, the frozen model: every token sees its own text up to itself"),
        *columns(TOP, length, 0),
        *grid(rows, TOP, [f"column {index}" for index in range(length)]),
        text(LEFT, below - 40, "pass 2, the view: every query sees its text before the anchor, and its whole block"),
        *columns(below, length, len(ANCHORS)),
        *grid(blocks, below, names()),
        *legend(below + len(blocks) * SIDE + 24),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def names() -> list[str]:
    """Return what the queries of the blocks are."""
    return [f"{'mask' if column else 'anchor'} at {anchor + column}" for anchor in ANCHORS for column in range(BLOCK)]


def columns(top: int, length: int, blocks: int) -> list[str]:
    """Return what stands above the slots: the texts of the row, and the blocks."""
    spans = [(0, STARTS.count(0), "text 1"), (STARTS.count(0), length, "text 2")]
    spans += [
        (length + number * BLOCK, length + (number + 1) * BLOCK, f"block {number + 1}") for number in range(blocks)
    ]
    parts = []
    for first, end, name in spans:
        left, right = LEFT + first * SIDE, LEFT + end * SIDE - 1
        parts.append(f'<rect x="{left}" y="{top - 7}" width="{right - left}" height="2" fill="black"/>')
        parts.append(text((left + right) // 2, top - 12, name, "middle"))
    return parts


def grid(mask: Tensor, top: int, labels: list[str]) -> list[str]:
    """Return the squares of a mask [queries, slots], a label before each row."""
    parts = []
    for row, (seen, label) in enumerate(zip(mask.tolist(), labels, strict=True)):
        y = top + row * SIDE
        parts.append(text(LEFT - 8, y + SIDE - 5, label, "end"))
        parts += [square(LEFT + slot * SIDE, y, COLORS[kind(slot, visible)]) for slot, visible in enumerate(seen)]
    return parts


def kind(slot: int, seen: bool) -> str:
    """Return what a slot is to a query."""
    if not seen:
        return "nothing"
    return "text" if slot < len(STARTS) else "block"


def legend(top: int) -> list[str]:
    """Return what the colours mean."""
    meanings = {"text": "keys of the frozen model", "block": "keys of the view", "nothing": "not seen"}
    parts = []
    for row, (name, meaning) in enumerate(meanings.items()):
        x = LEFT + row * 190
        parts += [square(x, top, COLORS[name]), text(x + SIDE + 6, top + SIDE - 5, meaning)]
    return parts


if __name__ == "__main__":
    OUT.write_text(drawing(), encoding="utf-8")
