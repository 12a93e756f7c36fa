"""Squares and words of the pictures of masks, as SVG."""

from __future__ import annotations

SIDE = 18  # of a square, with the line beside it


def square(x: int, y: int, color: str) -> str:
    """Return a square of a mask."""
    return f'<rect x="{x}" y="{y}" width="{SIDE - 1}" height="{SIDE - 1}" fill="{color}"/>'


def text(x: int, y: int, words: str, anchor: str = "start") -> str:
    """Return words at a place."""
    return f'<text x="{x}" y="{y}" text-anchor="{anchor}">{words}</text>'
