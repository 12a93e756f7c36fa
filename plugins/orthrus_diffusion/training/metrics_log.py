"""The metrics log of a stage: a line of metrics.jsonl each time, and a plot of all of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from orthrus.files import write_whole

FILE, PLOT = "metrics.jsonl", "metrics.svg"


class Records:
    """Keep the records of a stage in its directory; each has a number `x` that counts what is done.

    Several processes add to them, so that what a stage has recorded is what its file holds.
    """

    def __init__(self, directory: Path, x: str) -> None:
        self._directory = directory
        self._x = x

    def read(self) -> list[dict[str, Any]]:
        """Return the records that are whole, in the order of x."""
        file = self._directory / FILE
        text = file.read_text(encoding="utf-8", errors="replace") if file.exists() else ""
        lines = [line for line in map(_whole, text.splitlines()) if _is_number(line.get(self._x))]
        return sorted(lines, key=lambda line: float(line[self._x]))

    def resume(self, is_done: Callable[[float], bool]) -> None:
        """Forget the records of what is not done, by its x, and those that were cut off."""
        if (self._directory / FILE).exists():
            lines = [line for line in self.read() if is_done(line[self._x])]
            write_whole(self._directory / FILE, "".join(json.dumps(line) + "\n" for line in lines))

    def write(self, **values: Any) -> None:
        """Add a record, on a line of its own also behind one that a full disk cut off."""
        self._directory.mkdir(parents=True, exist_ok=True)
        with (self._directory / FILE).open("a+b") as stream:
            stream.seek(max(stream.tell() - 1, 0))
            cut_off = stream.read(1) not in (b"", b"\n")
            stream.write(b"\n" * cut_off + json.dumps(values).encode() + b"\n")

    def plot(self, notify: Callable[[str], None]) -> None:
        """Draw every number over x; without matplotlib tell that there is no plot."""
        lines = self.read()
        names = dict.fromkeys(key for line in lines for key, value in line.items() if _is_number(value))
        names.pop(self._x, None)
        if not names:
            return
        try:
            from matplotlib.figure import Figure
        except ImportError:
            notify(f"no plot is drawn: it needs matplotlib (pip install 'orthrus-decoding[bench]'); see {FILE}")
            return
        figure = Figure(figsize=(8, 2.2 * len(names)), layout="constrained")
        for index, name in enumerate(names):
            axes = figure.add_subplot(len(names), 1, index + 1)
            points = [(line[self._x], line[name]) for line in lines if _is_number(line.get(name))]
            axes.plot(*zip(*points, strict=True), marker="." if len(points) < 50 else None)
            axes.set_ylabel(name)
            axes.grid(alpha=0.3)
        axes.set_xlabel(self._x)
        write_whole(self._directory / PLOT, lambda path: figure.savefig(path, format="svg"))


def _whole(line: str) -> dict[str, Any]:
    """Return a record; an empty one for a line that an interruption cut off, or that is none."""
    try:
        line_values = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return line_values if isinstance(line_values, dict) else {}


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
