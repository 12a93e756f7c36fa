"""The picture of a trace, by matplotlib: accepted drafts along the text, by position, and time by part.

matplotlib is what benchmarks are drawn by, so that no further package is needed; a browser would be a large one.
"""

from __future__ import annotations

import logging
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from orthrus import InputError
from orthrus_trace.statistics import along_text, cycles_of, positions, seconds_by_part, totals
from orthrus_trace.svg import COLORS
from orthrus_trace.trace_file import Trace

GREEN = "#00875a"
DOTS = 120  # an inch


def check_matplotlib() -> None:
    """Raise InputError if matplotlib is not installed."""
    if find_spec("matplotlib") is None:
        raise InputError("--png needs matplotlib: pip install 'orthrus-decoding[bench]'")


def draw_picture(trace: Trace, name: str, path: Path) -> None:
    """Write the picture of a trace as PNG; name: of its file. Raises OSError."""
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # it tells of its font cache
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context():
        matplotlib.rcdefaults()  # whatever the user's own style is
        figure = Figure(figsize=(9, 8), layout="constrained")
        along, by_position, by_part = figure.subplots(3, 1, gridspec_kw={"height_ratios": [3, 3, 1]})
        sums = totals(trace)
        figure.suptitle(
            f"{_plain(name)}: {_plain(trace.drafter)}, {sums.accepted:,} of {sums.drafted:,} drafts accepted",
            parse_math=False,
        )
        _draw_along(along, trace)
        _draw_positions(by_position, trace)
        _draw_parts(by_part, trace)
        figure.savefig(path, format="png", dpi=DOTS)


def _draw_along(axes: Any, trace: Trace) -> None:
    request = max(trace.requests, key=lambda request: len(request.cycles))
    cycles = along_text(request.cycles)
    starts, widths = [cycle[0] for cycle in cycles], [cycle[1] for cycle in cycles]
    axes.bar(
        starts,
        [cycle[2] for cycle in cycles],
        widths,
        align="edge",
        fill=False,
        edgecolor=GREEN,
        lw=0.4,
        label="drafted",
    )
    axes.bar(starts, [cycle[3] for cycle in cycles], widths, align="edge", color=GREEN, label="accepted")
    axes.set(xlabel="token of the answer", ylabel="drafts a cycle")
    axes.set_title(f"Along the text of request {_plain(request.id)}", fontsize=10, loc="left", parse_math=False)
    axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, frameon=False)


def _draw_positions(axes: Any, trace: Trace) -> None:
    places = positions(cycles_of(trace))
    axes.bar([place.number for place in places], [place.share for place in places], color=GREEN)
    axes.set(xlabel="position in the draft", ylabel="share accepted", ylim=(0, 1))
    if not places:
        axes.text(0.5, 0.5, "nothing was drafted", ha="center", transform=axes.transAxes)


def _draw_parts(axes: Any, trace: Trace) -> None:
    seconds = seconds_by_part(trace)
    whole, left = sum(seconds.values()) or 1.0, 0.0
    for part, value in seconds.items():
        axes.barh([0], [value], left=left, color=COLORS[part], label=f"{part} {value / whole:.0%}")
        left += value
    axes.set(xlabel="seconds", yticks=[])
    axes.legend(ncols=len(seconds), loc="lower center", bbox_to_anchor=(0.5, 1.0), frameon=False)


def _plain(text: str, most: int = 60) -> str:
    """Return a text that a title can have: no control characters, and not too long."""
    kept = "".join(letter for letter in text if letter.isprintable())
    return kept if len(kept) <= most else f"{kept[:most]}..."
