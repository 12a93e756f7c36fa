"""Draws docs/explanation/one-pass.svg, what sees what in one pass a cycle: `python docs/tools/one_pass_mask.py`.

A draft of two tokens is scored after four committed ones, beside the three blocks for the lengths that may be accepted.
The squares are what `orthrus_attention.masks.visible` makes of the masks of the two kinds of rows, those of
`orthrus.one_pass.AcceptableBlocks` among them. Blocks are drawn one below the other, where the pass has all first
places side by side, then all second ones.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch import Tensor

from orthrus import MaskDescription
from orthrus.one_pass import AcceptableBlocks
from orthrus_attention.masks import visible

sys.path.insert(0, str(Path(__file__).parent))
from mask_squares import SIDE, square, text  # its neighbour, wherever it is run from

OUT = Path(__file__).parents[1] / "explanation" / "one-pass.svg"
COMMITTED = 4
BLOCKS = AcceptableBlocks("view", mask_token_id=0, drafts=2, size=4)
LEFT, TOP = 190, 96
COLORS = {"nothing": "#f2f2f2", "committed": "#999999", "draft": "#56B4E9", "block": "#E69F00"}
CPU = torch.device("cpu")


def masks() -> Tensor:
    """Return what each row of the pass sees: [n + 1 + C, slots], in the pass's own order."""
    lengths = torch.tensor([COMMITTED])
    extent = COMMITTED + BLOCKS.count + BLOCKS.columns
    scored = MaskDescription("causal", lengths[:, None] + torch.arange(BLOCKS.count), lengths, extent)
    positions, seen = lengths[:, None] + BLOCKS.depths(CPU), BLOCKS.seen(CPU)[None]
    beside = MaskDescription("blocks", positions, lengths, extent, seen)
    return torch.cat([visible(scored, None)[0], visible(beside, None)[0]])


def order() -> list[int]:
    """Return the columns of the blocks, block by block."""
    lengths, places = BLOCKS.lengths(CPU).tolist(), BLOCKS.places(CPU).tolist()
    return sorted(range(BLOCKS.columns), key=lambda column: (lengths[column], places[column]))


def drawn() -> list[list[bool]]:
    """Return what is drawn: what each row sees, block by block."""
    first = BLOCKS.count
    rows = [*range(first), *(first + column for column in order())]
    slots = [*range(COMMITTED), *(COMMITTED + row for row in rows)]
    chosen: list[list[bool]] = masks()[rows][:, slots].tolist()
    return chosen


def names() -> list[str]:
    """Return what the rows are, and where in the text."""
    tokens = ["anchor", *(f"draft {index + 1}" for index in range(BLOCKS.drafts))]
    scored = [f"{token} at {COMMITTED + index}" for index, token in enumerate(tokens)]
    blocks = [
        f"{tokens[length] if not place else 'mask'} at {COMMITTED + length + place}"
        for length in range(BLOCKS.count)
        for place in range(BLOCKS.size)
    ]
    return [*scored, *blocks]


def spans() -> list[tuple[int, int, str]]:
    """Return stretches of slots: the first, the one after the last, and what they are."""
    begin = COMMITTED + BLOCKS.count
    stretches = [(0, COMMITTED, "committed"), (COMMITTED, begin, "scored")]
    return stretches + [
        (begin + length * BLOCKS.size, begin + (length + 1) * BLOCKS.size, f"{length} accepted")
        for length in range(BLOCKS.count)
    ]


def kind(slot: int, seen: bool) -> str:
    """Return what a slot is to a row."""
    if not seen:
        return "nothing"
    return "committed" if slot < COMMITTED else "draft" if slot < COMMITTED + BLOCKS.count else "block"


def drawing() -> str:
    """Return the picture."""
    rows = drawn()
    width, height = LEFT + len(rows[0]) * SIDE + 30, TOP + len(rows) * SIDE + 90
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif"'
        ' font-size="12">',
        "<title>What sees what in one pass a cycle</title>",
        '<rect width="100%" height="100%" fill="white"/>',
        text(20, 24, f"one pass: {len(rows)} rows, of which the first {BLOCKS.count} take the model's own weights"),
        text(20, 42, "and all others the view's"),
    ]
    for first, end, name in spans():
        left, right = LEFT + first * SIDE, LEFT + end * SIDE - 1
        parts.append(f'<rect x="{left}" y="{TOP - 7}" width="{right - left}" height="2" fill="black"/>')
        parts.append(text((left + right) // 2, TOP - 12, name, "middle"))
    for row, (seen, name) in enumerate(zip(rows, names(), strict=True)):
        y = TOP + row * SIDE
        parts.append(text(LEFT - 8, y + SIDE - 5, name, "end"))
        parts += [square(LEFT + slot * SIDE, y, COLORS[kind(slot, visible)]) for slot, visible in enumerate(seen)]
    return "\n".join([*parts, *legend(TOP + len(rows) * SIDE + 20), "</svg>"]) + "\n"


def legend(top: int) -> list[str]:
    """Return what the colours mean."""
    meanings = {
        "committed": "committed keys of the model",
        "draft": "the model's keys of this pass",
        "block": "the view's keys of this pass",
        "nothing": "not seen",
    }
    parts = []
    for index, (name, meaning) in enumerate(meanings.items()):
        x, y = 20 + index % 2 * 240, top + index // 2 * 26
        parts += [square(x, y, COLORS[name]), text(x + SIDE + 6, y + SIDE - 5, meaning)]
    return parts


if __name__ == "__main__":
    OUT.write_text(drawing(), encoding="utf-8")
