"""A Markdown report of benchmarks: for each what it ran on, its command, its table, its plots; no word typed in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from orthrus.bench.formatting import engine, escape, filled, mebibytes, number, pair, setting, share, spread
from orthrus.bench.memory_growth import memory_growth
from orthrus.bench.plots import Figure, draw_figures
from orthrus.bench.results import Results, Run

Cell = Callable[[Run], str]
DEFAULT_INTRODUCTION = "# Benchmarks\n"


@dataclass(frozen=True)
class Report:
    """A page of Markdown and the figures that it shows."""

    markdown: str
    figures: tuple[Figure, ...]


def make_report(benchmarks: Mapping[str, Results], introduction: str = "", folder: str = "figures") -> Report:
    """Return the report of benchmarks by name, in their order; raise InputError if plots cannot be drawn here.

    A name begins the names of the benchmark's figures. folder: where the page finds them. introduction: Markdown with
    the page's heading, for before everything else.
    """
    sections, figures = [(introduction or DEFAULT_INTRODUCTION).strip()], []
    for name, results in benchmarks.items():
        drawn = draw_figures(results, name)
        figures += drawn
        images = [f"![{escape(plot.caption)}]({folder}/{plot.name})" for plot in drawn]
        sections += [*section(results), *images]
    return Report("\n\n".join(sections) + "\n", tuple(figures))


def section(results: Results) -> list[str]:
    """Return the paragraphs of one benchmark, its figures excepted."""
    paragraphs = [
        f"## {escape(results.title)}",
        _place(results),
        _settings(results),
        _command(results.command),
        _table(results),
        "\n".join(f"- {escape(str(growth))}" for growth in memory_growth(results)),
        "\n".join(f"- {_failure(run)}" for run in results.runs if run.error is not None),
        escape(results.note),
    ]
    return [paragraph for paragraph in paragraphs if paragraph]


def _place(results: Results) -> str:
    facts = dict(results.environment)
    device, bandwidth = facts.pop("device", None), facts.pop("copy_bandwidth", None)
    parts = [f"{key} {setting(value)}" for key, value in facts.items() if value is not None]
    if isinstance(bandwidth, (int, float)):
        parts.append(f"copy bandwidth {number(bandwidth / 1e9)} GB/s, read plus written")
    where = f"On {escape(setting(device))}, " if device else ""
    return f"{where}{escape(results.date.partition('T')[0])}: {escape('; '.join(parts))}."


def _settings(results: Results) -> str:
    parts = [f"{key} {setting(value)}" for key, value in results.settings.items() if key != "subjects"]
    return f"Settings: {escape('; '.join(parts))}." if parts else ""


def _command(command: str) -> str:
    fence = "```"
    while fence in command:
        fence += "`"
    return f"<!-- not run: a benchmark -->\n{fence}console\n$ {command}\n{fence}"


def _table(results: Results) -> str:
    """Return the table of all runs; a column in which no run has anything is left out."""
    if not results.runs:
        return "Nothing was measured."
    shown = filled(_columns(results), results.runs)
    rows = [list(shown), ["---"] * len(shown), *(list(row) for row in zip(*shown.values(), strict=True))]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _columns(results: Results) -> dict[str, Cell]:
    against = results.settings.get("against") or (results.runs[0].label if results.runs else "")
    points: dict[str, Cell] = {escape(key): _point_cell(key) for key in results.swept}
    return {
        "subject": lambda run: escape(run.label),
        **points,
        "tokens/s": lambda run: "failed" if run.error is not None else spread(run.tokens_per_second, digits=4),
        f"ratio to {escape(setting(against))}": lambda run: spread(run.ratio),
        "tokens_per_cycle, pooled / per prompt": lambda run: pair(run.tokens_per_cycle),
        "accepted_length, pooled / per prompt": lambda run: pair(run.accepted_length),
        "tpf, pooled / per prompt": lambda run: pair(run.tpf),
        "TTFT, ms": lambda run: spread(run.ttft_seconds, 1000),
        "cycle, ms": lambda run: spread(run.cycle_seconds, 1000),
        "pass, ms": lambda run: "" if run.phases is None else number(run.phases.score * 1000),
        "of the bandwidth limit": lambda run: share(run.bandwidth_share),
        "peak memory, MiB": lambda run: mebibytes(run.peak_memory_bytes),
        "identical": lambda run: share(run.identical),
        "engine": lambda run: engine(run.engine),
    }


def _point_cell(key: str) -> Cell:
    return lambda run: escape(setting(run.point[key])) if key in run.point else ""


def _failure(run: Run) -> str:
    named = ", ".join([run.label, *(f"{key} {setting(value)}" for key, value in run.point.items())])
    return escape(f"{named}: {run.error}")
