"""The terminal table of benchmark results: a row a run."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from rich.table import Table
from rich.text import Text

from orthrus.bench.formatting import engine, filled, mebibytes, number, pair, share, spread
from orthrus.bench.memory_growth import memory_growth
from orthrus.bench.results import Phases, Results, Run
from orthrus.terminal import console

WIDE = 240  # columns for a file or a pipe, which have no width of their own
Cell = Callable[[Run], str]


def print_results(results: Results) -> None:
    """Print the runs, below them where their cycles' time goes, and what failed."""
    terminal = console()
    if not terminal.is_terminal:
        terminal = console(width=max(WIDE, terminal.width))
    terminal.print(_table(COLUMNS, results.runs))
    if profiled := [run for run in results.runs if run.phases is not None]:
        terminal.print(_table(PHASES, profiled, title="where the time of a cycle goes, ms"))
    for grown in memory_growth(results):
        terminal.print(str(grown), markup=False, soft_wrap=True)
    for run in results.runs:
        if run.error is not None:
            terminal.print(f"{run.label}, {_point(run)}: {run.error}", markup=False, soft_wrap=True)


def _table(columns: Mapping[str, Cell], runs: Sequence[Run], title: str | None = None) -> Table:
    """Return a table of the columns in which any run has something."""
    shown = filled(columns, runs)
    table = Table(*shown, title=title)
    for row in zip(*shown.values(), strict=True):
        table.add_row(*map(Text, row))
    return table


def _point(run: Run) -> str:
    return ", ".join(f"{key} {value}" for key, value in run.point.items())


def _speed(run: Run) -> str:
    return "failed" if run.error is not None else spread(run.tokens_per_second, digits=4)


def _phase(run: Run, name: str) -> str:
    return "" if run.phases is None else number(getattr(run.phases, name) * 1000)


COLUMNS: dict[str, Cell] = {
    "subject": lambda run: run.label,
    "point": _point,
    "tokens/s": _speed,
    "ratio": lambda run: spread(run.ratio),
    "tokens_per_cycle": lambda run: pair(run.tokens_per_cycle),
    "accepted_length": lambda run: pair(run.accepted_length),
    "tpf": lambda run: pair(run.tpf),
    "TTFT, ms": lambda run: spread(run.ttft_seconds, 1000),
    "cycle, ms": lambda run: spread(run.cycle_seconds, 1000),
    "pass, ms": lambda run: _phase(run, "score"),
    "of bandwidth": lambda run: share(run.bandwidth_share),
    "peak, MiB": lambda run: mebibytes(run.peak_memory_bytes),
    "identical": lambda run: share(run.identical),
    "engine": lambda run: engine(run.engine),
}
PHASES: dict[str, Cell] = {
    "subject": lambda run: run.label,
    "point": _point,
    **{field.name: partial(_phase, name=field.name) for field in dataclasses.fields(Phases)},
}
