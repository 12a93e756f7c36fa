"""Plots of a benchmark as SVG: speed over each swept key, and where the time of a cycle goes.

Subjects differ in marker and line as well as in colour, phases in hatching; text stays text. The same results give the
same SVG, to the letter.
"""

from __future__ import annotations

import dataclasses
import io
import itertools
import re
import textwrap
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orthrus.bench.formatting import number, setting
from orthrus.bench.results import Phases, Results, Run
from orthrus.errors import InputError

Point = tuple[float, float, float, float]  # x, median, low, high
Measure = Callable[[Run], tuple[float, float, float] | None]

STYLE = {
    "font.size": 12,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "0.85",
    "hatch.linewidth": 0.8,
    "svg.fonttype": "none",
    "svg.hashsalt": "orthrus",
}
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")  # Okabe and Ito's
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
LINES = ("-", "--", "-.", ":")
HATCHES = ("", "//", "..", "xx", "\\\\")
WIDTH, LEGEND_LINE = 8.0, 0.28  # inches


@dataclass(frozen=True)
class Figure:
    """A plot: its file's name, what it shows in a few words, and the SVG text."""

    name: str
    caption: str
    svg: str


def draw_figures(results: Results, name: str) -> list[Figure]:
    """Return the plots of one benchmark, none where there is nothing to compare; InputError without matplotlib.

    Times of isolated subjects are not for comparing. name: begins the names of their files.
    """
    if results.settings.get("isolated"):
        return []
    figures = []
    for key in _numeric_keys(results):
        for label, file, measure in (("tokens/s", "speed", _speed), ("verify pass, ms", "pass", _pass)):
            lines = _lines(results, key, measure)
            if any(len(points) > 1 for points in lines.values()):
                figures.append(_over_key(lines, key, label, f"{name}-{file}-by-{_slug(key)}.svg"))
    profiled = [run for run in results.runs if run.phases is not None]
    return [*figures, *([_phases(profiled, name)] if profiled else [])]


def _speed(run: Run) -> tuple[float, float, float] | None:
    spread = run.tokens_per_second
    return None if spread is None else (spread.median, spread.low, spread.high)


def _pass(run: Run) -> tuple[float, float, float] | None:
    return None if run.phases is None else (run.phases.score * 1000,) * 3


def _numeric_keys(results: Results) -> list[str]:
    """Return the keys that are swept over more than one number."""
    values = {key: {run.point[key] for run in results.runs if _is_number(run.point.get(key))} for key in results.swept}
    return [key for key, settings in values.items() if len(settings) > 1]


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _lines(results: Results, key: str, measure: Measure) -> Mapping[str, list[Point]]:
    """Return the points over a key, by subject and by what else is swept."""
    values = {name: {setting(run.point.get(name)) for run in results.runs} for name in results.swept if name != key}
    others = [name for name, settings in values.items() if len(settings) > 1]
    lines: dict[str, list[Point]] = {}
    for run in results.runs:
        value = measure(run)
        if value is not None and _is_number(run.point.get(key)):
            rest = [f"{name} {setting(run.point[name])}" for name in others if name in run.point]
            lines.setdefault(", ".join([run.label, *rest]), []).append((run.point[key], *value))
    return {label: sorted(points) for label, points in lines.items()}


def _over_key(lines: Mapping[str, list[Point]], key: str, label: str, file: str) -> Figure:
    def fill(axes: Any) -> None:
        styles = zip(itertools.cycle(COLORS), itertools.cycle(MARKERS), itertools.cycle(LINES), strict=False)
        for (subject, points), (color, marker, line) in zip(lines.items(), styles, strict=False):
            x, middle, low, high = zip(*points, strict=True)
            below = [median - least for median, least in zip(middle, low, strict=True)]
            above = [most - median for median, most in zip(middle, high, strict=True)]
            axes.errorbar(
                x, middle, (below, above), color=color, marker=marker, linestyle=line, capsize=4, label=_plain(subject)
            )
        _scale_x(axes, sorted({point[0] for points in lines.values() for point in points}))
        axes.set_xlabel(_plain(key))
        axes.set_ylabel(label)
        axes.set_ylim(bottom=0)

    caption = f"{label} by {key}, a line for each subject"
    return Figure(file, caption, draw_svg(fill, 4.5 + LEGEND_LINE * len(lines), caption))


def _scale_x(axes: Any, values: Sequence[float]) -> None:
    """Mark the measured values and no others; a wide sweep is spread out by its logarithm."""
    if values[0] > 0 and values[-1] / values[0] >= 8:
        axes.set_xscale("log", base=2)
    axes.minorticks_off()
    axes.set_xticks(values, [setting(value) for value in values], rotation=45 if len(values) > 8 else 0)


def _phases(runs: Sequence[Run], name: str) -> Figure:
    """Return a bar for each run, made of its phases."""
    labels = [_plain(_name(run), 32) for run in runs]
    lines = sum(2 + label.count("\n") for label in labels)
    parts = [
        {field.name: getattr(run.phases, field.name) * 1000 for field in dataclasses.fields(Phases)} for run in runs
    ]

    def fill(axes: Any) -> None:
        left = [0.0] * len(runs)
        for phase, color, hatch in zip(parts[0], COLORS, HATCHES, strict=False):
            widths = [part[phase] for part in parts]
            axes.barh(range(len(runs)), widths, left=left, color=color, hatch=hatch, edgecolor="white", label=phase)
            left = [start + width for start, width in zip(left, widths, strict=True)]
        for index, total in enumerate(left):
            axes.annotate(number(total), (total, index), (4, 0), textcoords="offset points", va="center")
        axes.set_yticks(range(len(runs)), labels)
        axes.invert_yaxis()
        axes.margins(x=0.12)
        axes.set_xlabel("ms of a cycle")

    caption = "where a cycle's time goes"
    return Figure(f"{name}-phases.svg", caption, draw_svg(fill, 1.7 + 0.23 * lines, caption, columns=len(parts[0])))


def _name(run: Run) -> str:
    return ", ".join([run.label, *(f"{key} {setting(value)}" for key, value in run.point.items())])


def draw_svg(fill: Callable[[Any], None], height: float, title: str, columns: int = 1) -> str:
    """Return a figure with one pair of axes, and a legend of so many columns below them, as SVG text."""
    try:
        import matplotlib
        from matplotlib.figure import Figure as Canvas
    except ImportError as error:
        raise InputError("plots need matplotlib: pip install 'orthrus-decoding[bench]'") from error

    written = io.StringIO()
    with matplotlib.rc_context(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # text stays text: the reader's fonts have what ours lack
        matplotlib.rcdefaults()  # whatever the user's own style is
        matplotlib.rcParams.update(STYLE)
        canvas = Canvas(figsize=(WIDTH, height), layout="constrained")
        fill(canvas.subplots())
        canvas.legend(loc="outside lower left", ncols=columns)
        canvas.savefig(written, format="svg", metadata={"Date": None, "Title": title})
    return "".join(f"{line.rstrip()}\n" for line in written.getvalue().splitlines())


def _plain(text: str, width: int = 80) -> str:
    """Return text in lines of so many letters, in which matplotlib sees no formula."""
    return textwrap.fill(" ".join(text.split()), width).replace("$", r"\$")


def _slug(key: str) -> str:
    return re.sub(r"\W+", "-", key).strip("-")
