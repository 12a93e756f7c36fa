"""Compares plots with those that the installed matplotlib draws."""

from __future__ import annotations

import re

import matplotlib as mpl


def same(one: str, other: str) -> bool:
    """Compare two plots to the letter; what another matplotlib drew, by its texts."""
    if f"Matplotlib v{mpl.__version__}," in one:
        return one == other
    return texts(one) == texts(other) != []


def texts(svg: str) -> list[str]:
    """Return the texts of a plot."""
    return re.findall(r"<text [^>]*>([^<]*)</text>", svg)
