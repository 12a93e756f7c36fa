"""How results look in a terminal: one table, a row a run."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from rich.console import Console
from rich.table import Table
from rich.text import Text

from orthrus.bench.results import Phases, Results, Run, Spread

WIDE = 200  # columns for a file or a pipe, which have no width of their own
Cell = Callable[[Run], str]


def print_results(results: Results) -> None:
    """Print the runs, below them where their cycles' time goes, and what failed."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=max(WIDE, console.width))
    console.print(_table(COLUMNS, results.runs))
    if profiled := [run for run in results.runs if run.phases is not None]:
        console.print(_table(PHASES, profiled, title="where the time of a cycle goes, ms"))
    for run in results.runs:
        if run.error is not None:
            console.print(f"{run.label}, {_point(run)}: {run.error}", markup=False, soft_wrap=True)


def _table(columns: Mapping[str, Cell], runs: Sequence[Run], title: str | None = None) -> Table:
    """Return a table of the columns in which any run has something."""
    cells = {name: [cell(run) for run in runs] for name, cell in columns.items()}
    shown = {name: column for name, column in cells.items() if any(column)}
    table = Table(*shown, title=title)
    for row in zip(*shown.values(), strict=True):
        table.add_row(*map(Text, row))
    return table


def _point(run: Run) -> str:
    return ", ".join(f"{key} {value}" for key, value in run.point.items())


def _speed(run: Run) -> str:
    return "failed" if run.error is not None else _spread(run.tokens_per_second)


def _spread(spread: Spread | None, scale: float = 1.0, digits: int = 4) -> str:
    if spread is None:
        return ""
    median, low, high = (_number(value * scale, digits) for value in (spread.median, spread.low, spread.high))
    return median if len(spread.values) == 1 else f"{median} ({low}-{high})"


def _pair(values: Sequence[float] | None) -> str:
    return "" if values is None else " / ".join(f"{value:.2f}" for value in values)


def _share(value: float | None) -> str:
    """Return per cent, rounded down: what is not all of it is never shown as all of it."""
    return "" if value is None else f"{math.floor(value * 1000) / 10:.1f} %"


def _phase(run: Run, name: str) -> str:
    return "" if run.phases is None else _number(getattr(run.phases, name) * 1000, 3)


def _number(value: float, digits: int) -> str:
    """Return a number with so many digits that count, and all of those before the point."""
    text = f"{value:.{digits}g}"
    return f"{value:,.0f}" if "e+" in text else text


COLUMNS: dict[str, Cell] = {
    "subject": lambda run: run.label,
    "point": _point,
    "tokens/s": _speed,
    "ratio": lambda run: _spread(run.ratio, digits=3),
    "tokens_per_cycle": lambda run: _pair(run.tokens_per_cycle),
    "tpf": lambda run: _pair(run.tpf),
    "TTFT, ms": lambda run: _spread(run.ttft_seconds, 1000, digits=3),
    "cycle, ms": lambda run: _spread(run.cycle_seconds, 1000, digits=3),
    "of bandwidth": lambda run: _share(run.bandwidth_share),
    "peak, MiB": lambda run: "" if run.peak_memory_bytes is None else f"{run.peak_memory_bytes / 2**20:,.0f}",
    "identical": lambda run: _share(run.identical),
    "engine": lambda run: ", ".join(f"{name} {value}" for name, value in (run.engine or {}).items()),
}
PHASES: dict[str, Cell] = {
    "subject": lambda run: run.label,
    "point": _point,
    **{one.name: partial(_phase, name=one.name) for one in dataclasses.fields(Phases)},
}
