"""A plot of the gaps of runs: how many tokens are how far below the reference's largest logit, and the bound."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from orthrus.bench.plots import COLORS, LEGEND_LINE, LINES, draw_svg

CAPTION = "tokens whose logit is at least so far below the reference's largest"


def draw_gaps(runs: Sequence[Mapping[str, Any]]) -> str:
    """Return the SVG of runs as a record holds them; InputError without matplotlib.

    A run without gaps has no line; a bound has one, dotted, for each height.
    """
    shown = [run for run in runs if any(run["gaps"])]

    def fill(axes: Any) -> None:
        for run, color, line in zip(shown, itertools.cycle(COLORS), itertools.cycle(LINES), strict=False):
            gaps = sorted((gap for gap in run["gaps"] if gap), reverse=True)
            axes.step(gaps, range(1, len(gaps) + 1), where="pre", color=color, linestyle=line, label=_label(run))
        for height in sorted({run["bound"] for run in shown}):
            axes.axvline(height, color="black", linestyle=":", label=f"bound {height:.3g}")
        if shown:
            axes.set_xscale("log")
            axes.set_yscale("log")
        else:
            axes.text(0.5, 0.5, "every token is the argmax", transform=axes.transAxes, ha="center")
            axes.plot([], [], label=f"{len(runs)} runs")
        axes.set_xlabel("gap of the logits")
        axes.set_ylabel("tokens")

    return draw_svg(fill, 4.2 + LEGEND_LINE * (len(shown) + 1), CAPTION)


def _label(run: Mapping[str, Any]) -> str:
    return f"{run['label']}, batch {run['batch']}, {run['dtype']}".replace("$", r"\$")
