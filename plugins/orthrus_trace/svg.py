"""Charts of a trace as SVG that stands in a page: bars over positions, over parts, and along a text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from orthrus_trace.statistics import Position

COLORS = {"prefill": "#56b4e9", "draft": "#e69f00", "score": "#0072b2", "verify": "#cc79a7", "other": "#999999"}
WIDTH, HEIGHT, LEFT, BOTTOM = 720, 220, 44, 34
LONGEST_TICKS = 16  # of labels below an axis


def acceptance(positions: Sequence[Position]) -> str:
    """Return bars of the share of drafts that were accepted, by their position in the draft."""
    step = (WIDTH - LEFT) / max(1, len(positions))
    every = -(-len(positions) // LONGEST_TICKS)
    bars = [_bar(LEFT + step * index, step * 0.8, place) for index, place in enumerate(positions)]
    labels = [
        _text(LEFT + step * (index + 0.4), HEIGHT - BOTTOM + 16, str(place.number))
        for index, place in enumerate(positions)
        if index % every == 0
    ]
    grid = [_grid_line(share) for share in (0.0, 0.25, 0.5, 0.75, 1.0)]
    axis = _text(LEFT + (WIDTH - LEFT) / 2, HEIGHT - 2, "position in the draft")
    return _svg(HEIGHT, [*grid, *bars, *labels, axis], "share of drafts accepted, by position in the draft")


def time_by_part(seconds: Mapping[str, float]) -> str:
    """Return one bar of all time, cut into parts, with a legend."""
    whole = sum(seconds.values()) or 1.0
    shapes, left = [], 0.0
    for part, value in seconds.items():
        width = WIDTH * value / whole
        title = f"<title>{part}: {value:.4g} s, {value / whole:.1%}</title>"
        shapes.append(
            f'<rect x="{left:.1f}" y="0" width="{width:.1f}" height="36" fill="{COLORS[part]}">{title}</rect>'
        )
        left += width
    for index, (part, value) in enumerate(seconds.items()):
        x = index * WIDTH / len(seconds)
        shapes.append(f'<rect x="{x:.1f}" y="50" width="12" height="12" fill="{COLORS[part]}"/>')
        shapes.append(_text(x + 18, 61, f"{part} {value / whole:.1%}", anchor="start"))
    return _svg(70, shapes, "time by part")


def along_text(cycles: Sequence[tuple[int, int, int, int]]) -> str:
    """Return bars along an answer, one a cycle: what was drafted in outline, what was accepted filled.

    cycles: where each one's tokens begin, how many they are, and how many were drafted and accepted.
    """
    tokens = max((place + count for place, count, _, _ in cycles), default=1)
    most = max((drafted for _, _, drafted, _ in cycles), default=0) or 1
    scale, height = WIDTH / tokens, 60
    shapes = []
    for place, count, drafted, accepted in cycles:
        x, width = place * scale, max(0.5, count * scale - 0.5)
        for name, value in (("drafted", drafted), ("accepted", accepted)):
            top = height * (1 - value / most)
            shapes.append(
                f'<rect class="{name}" x="{x:.1f}" y="{top:.1f}" width="{width:.1f}" height="{height - top:.1f}">'
                f"<title>token {place + 1}: {accepted} of {drafted} drafts accepted</title></rect>"
            )
    base = f'<line class="grid" x1="0" x2="{WIDTH}" y1="{height}" y2="{height}"/>'
    return _svg(height + 1, [*shapes, base], "drafts along the text")


def _bar(x: float, width: float, place: Position) -> str:
    tall = (HEIGHT - BOTTOM - 10) * place.share
    title = f"<title>position {place.number}: {place.accepted} of {place.drafted}, {place.share:.1%}</title>"
    return (
        f'<rect class="accepted" x="{x:.1f}" y="{HEIGHT - BOTTOM - tall:.1f}" width="{width:.1f}"'
        f' height="{tall:.1f}">{title}</rect>'
    )


def _grid_line(share: float) -> str:
    y = HEIGHT - BOTTOM - (HEIGHT - BOTTOM - 10) * share
    line = f'<line class="grid" x1="{LEFT}" x2="{WIDTH}" y1="{y:.1f}" y2="{y:.1f}"/>'
    return line + _text(LEFT - 6, y + 4, f"{share:.0%}", anchor="end")


def _text(x: float, y: float, text: str, anchor: str = "middle") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _svg(height: int, shapes: Sequence[str], label: str) -> str:
    return f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(label)}">{"".join(shapes)}</svg>'
