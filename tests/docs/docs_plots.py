"""Compares plots with those that the installed matplotlib draws."""

from __future__ import annotations

import re

import matplotlib as mpl

NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
NAME = re.compile(r"\b[mp][0-9a-f]{10}\b")  # of a clip path or a marker: a hash of its numbers
ROUNDING = 1e-4  # points; processors round the last digits otherwise


def same(text: str, other: str) -> bool:
    """Compare two plots to the letter, numbers but for rounding; what another matplotlib drew, by its texts."""
    if f"Matplotlib v{mpl.__version__}," in text:
        text, other = (NAME.sub("name", svg) for svg in (text, other))
        return NUMBER.split(text) == NUMBER.split(other) and alike(numbers(text), numbers(other))
    return texts(text) == texts(other) != []


def numbers(svg: str) -> list[float]:
    """Return the numbers of a plot."""
    return [float(number) for number in NUMBER.findall(svg)]


def alike(some: list[float], others: list[float]) -> bool:
    """Tell whether numbers differ by rounding only."""
    return all(abs(number - other) <= ROUNDING for number, other in zip(some, others, strict=True))


def texts(svg: str) -> list[str]:
    """Return the texts of a plot."""
    return re.findall(r"<text [^>]*>([^<]*)</text>", svg)
