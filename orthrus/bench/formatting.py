"""Formats the values of tables and reports: rounded numbers, spreads as median and range, text escaped for Markdown."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from orthrus.bench.results import Run, Spread

SPECIAL = re.compile(r"[\\`*|<>\[\]]|(?<!\w)_|_(?!\w)")


def number(value: float, digits: int = 3) -> str:
    """Return a number with so many digits that count, and all of those before the point."""
    text = f"{value:#.{digits}g}".removesuffix(".")
    return f"{value:,.0f}" if "e+" in text else text


def spread(values: Spread | None, scale: float = 1.0, digits: int = 3) -> str:
    """Return median (low to high), or the one number where all look the same, or nothing."""
    if values is None:
        return ""
    median, low, high = (number(value * scale, digits) for value in (values.median, values.low, values.high))
    return median if low == high else f"{median} ({low} to {high})"


def pair(values: Sequence[float] | None) -> str:
    """Return pooled / per prompt, or nothing."""
    return "" if values is None else " / ".join(f"{value:.2f}" for value in values)


def share(value: float | None) -> str:
    """Return per cent, rounded down: what is not all of it is never shown as all of it."""
    return "" if value is None else f"{math.floor(value * 1000) / 10:.1f} %"


def mebibytes(value: int | None) -> str:
    """Return bytes in MiB, or nothing."""
    return "" if value is None else f"{value / 2**20:,.0f}"


def engine(report: Mapping[str, Any] | None) -> str:
    """Return what a target says of its engine, or nothing."""
    return ", ".join(f"{name} {value}" for name, value in (report or {}).items())


def filled(columns: Mapping[str, Callable[[Run], str]], runs: Sequence[Run]) -> dict[str, list[str]]:
    """Return the cells of each column in which any run has something, and of the first, which says whose row it is."""
    cells = {name: [cell(run) for run in runs] for name, cell in columns.items()}
    first = next(iter(cells), None)
    return {name: column for name, column in cells.items() if any(column) or name == first}


def setting(value: Any) -> str:
    """Return a swept value or setting as plain text: numbers with separators, lists with commas."""
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}" if abs(value) >= 10_000 else str(value)
    if isinstance(value, (list, tuple)):
        return ", ".join(setting(item) for item in value)
    return str(value)


def escape(text: str) -> str:
    """Return text in one line, so that Markdown shows it as it is, in tables too."""
    return SPECIAL.sub(r"\\\g<0>", " ".join(text.split()))
