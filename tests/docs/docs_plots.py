"""Compares plots with those that the installed matplotlib draws."""

from __future__ import annotations

import re

import matplotlib as mpl

NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
NAME = re.compile(r"\b[mp][0-9a-f]{10}\b")  # of a clip path or a marker: a hash of its numbers
ROUNDING = 1e-4  # points; processors round the last digits otherwise


def same(one: str, other: str) -> bool:
    """Compare two plots to the letter, numbers but for rounding; what another matplotlib drew, by its texts."""
    if f"Matplotlib v{mpl.__version__}," in one:
        one, other = (NAME.sub("name", svg) for svg in (one, other))
        return NUMBER.split(one) == NUMBER.split(other) and alike(numbers(one), numbers(other))
    return texts(one) == texts(other) != []


def numbers(svg: str) -> list[float]:
    """Return the numbers of a plot."""
    return [float(found) for found in NUMBER.findall(svg)]


def alike(some: list[float], others: list[float]) -> bool:
    """Tell whether numbers differ by rounding only."""
    return all(abs(one - other) <= ROUNDING for one, other in zip(some, others, strict=True))


def texts(svg: str) -> list[str]:
    """Return the texts of a plot."""
    return re.findall(r"<text [^>]*>([^<]*)</text>", svg)
