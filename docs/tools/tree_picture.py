"""Draws docs/explanation/tree.svg, a tree of drafts over a text: `python docs/tools/tree_picture.py`.

With --record the tree is taken anew from SmolLM2-135M-Instruct and its shipped view, and kept in
docs/evidence/tree.json: of one answer's cycles the one that kept most of a path which the likeliest chain has not.
"""

from __future__ import annotations

import html
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

import orthrus
from orthrus import Chance, Context, Draft, Verdict
from orthrus_verifiers.coupled import Coupled

DOCS = Path(__file__).parents[1]
OUT, KEPT = DOCS / "explanation" / "tree.svg", DOCS / "evidence" / "tree.json"
PROMPT = "Explain in simple terms why the sky is blue."
CONFIG = {"stop.max_new_tokens": 160, "drafter": {"name": "diffusion", "block": 16, "tree": 32}}
WIDE, HIGH, LEFT, TOP = 92, 22, 20, 60
COLORS = {"kept": "#009E73", "refused": "#999999", "anchor": "#0072B2"}


class Watching(Coupled):
    """The verifier, wrapped to note the trees of the first row and what it keeps of them."""

    def __init__(self) -> None:
        self.seen: list[dict[str, Any]] = []

    def verify(self, context: Context, draft: Draft, logits: Tensor, chance: Chance) -> Verdict:
        """Return the verdict."""
        verdict = super().verify(context, draft, logits, chance)
        if draft.parents is not None and verdict.last is not None:
            length = int(draft.lengths[0])
            self.seen.append(
                {
                    "text": [*context.rows[0].prompt, *context.rows[0].output],
                    "tokens": draft.tokens[0, :length].tolist(),
                    "parents": draft.parents[0, :length].tolist(),
                    "last": int(verdict.last[0]),
                }
            )
        return verdict


def record() -> dict[str, Any]:
    """Return a tree: the text before it, its tokens as texts, their parents, and the last one that was kept."""
    watching = Watching()
    decoder = orthrus.load("configs/recipes/smollm2-diffusion.yaml", verifier=watching, **CONFIG)
    decoder.generate([PROMPT])
    branched = [cycle for cycle in watching.seen if path(cycle) != likeliest(cycle)[: len(path(cycle))]]
    best = max(branched, key=lambda cycle: len(path(cycle)))
    decode = decoder.target.tokenizer.decode
    return {**best, "text": decode(best["text"])[-60:], "tokens": [decode([token]) for token in best["tokens"]]}


def path(cycle: Mapping[str, Any]) -> list[int]:
    """Return the tokens that were kept, by index."""
    token, kept = cycle["last"], []
    while token >= 0:
        kept.insert(0, token)
        token = cycle["parents"][token]
    return kept


def likeliest(cycle: Mapping[str, Any]) -> list[int]:
    """Return the chain in the tree that has each token's first child, which is its likeliest."""
    chain = [-1]
    while chain[-1] in cycle["parents"]:
        chain.append(cycle["parents"].index(chain[-1]))
    return chain[1:]


def lines(parents: Sequence[int]) -> dict[int, float]:
    """Return the line on which each token stands, -1 the anchor: leaves one below the other, others amid theirs."""
    children = {parent: [index for index, other in enumerate(parents) if other == parent] for parent in [-1, *parents]}
    where: dict[int, float] = {}

    def place(token: int) -> float:
        below = [place(child) for child in children.get(token, [])]
        leaves = sum(1 for other in where if not children.get(other))
        where[token] = (below[0] + below[-1]) / 2 if below else leaves
        return where[token]

    place(-1)
    return where


def drawing(tree: Mapping[str, Any]) -> str:
    """Return the picture."""
    parents, kept = tree["parents"], set(path(tree))
    depths = {-1: 0}
    for index, parent in enumerate(parents):
        depths[index] = depths[parent] + 1
    where = lines(parents)
    width = LEFT + (max(depths.values()) + 1) * WIDE + 20
    height = TOP + int(max(where.values()) + 1) * HIGH + 40
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="monospace"'
        ' font-size="12">',
        "<title>A tree of drafts over a text, and the path that was kept</title>",
        '<rect width="100%" height="100%" fill="white"/>',
        words(LEFT, 24, f"…{tree['text']}", "black"),
        words(
            LEFT, 42, f"{len(parents)} tokens in one pass; green: the {len(kept)} that the target agreed with", "black"
        ),
    ]
    for index, parent in enumerate(parents):
        color = COLORS["kept" if index in kept else "refused"]
        x, y = LEFT + depths[parent] * WIDE, TOP + where[parent] * HIGH
        line = f"M{x + WIDE - 34} {y:g} L{x + WIDE - 6} {TOP + where[index] * HIGH:g}"
        parts.append(f'<path d="{line}" stroke="{color}" fill="none"/>')
    for token, height_of in where.items():
        shown = "anchor" if token < 0 else repr(tree["tokens"][token])[1:-1]
        name = "anchor" if token < 0 else "kept" if token in kept else "refused"
        parts.append(words(LEFT + depths[token] * WIDE, TOP + height_of * HIGH + 4, shown[:8], COLORS[name]))
    return "\n".join([*parts, "</svg>"]) + "\n"


def words(x: float, y: float, text: str, color: str) -> str:
    """Return words at a place."""
    shown = html.escape(" ".join(text.splitlines()).replace(" ", "\u00a0"))
    return f'<text x="{x:g}" y="{y:g}" fill="{color}">{shown}</text>'


def main() -> None:
    """Record, if asked to, and draw."""
    if sys.argv[1:] == ["--record"]:
        KEPT.write_text(json.dumps(record(), indent=1) + "\n", encoding="utf-8")
    OUT.write_text(drawing(json.loads(KEPT.read_text(encoding="utf-8"))), encoding="utf-8")


if __name__ == "__main__":
    main()
