"""The source `shape:`: a model of random weights in a published shape, for measuring speed without its files."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path

from orthrus import InputError, Location, Parts

SHAPES = Path(__file__).parent / "shapes"  # a directory with a config.json for each


@dataclass(frozen=True)
class ShapeSource:
    """Be a named shape."""

    location: str

    def fetch(self) -> Path:
        """Return the directory with the shape's config.json, which asks for random weights; InputError if unknown."""
        known = shape_names()
        if self.location in known:
            return SHAPES / self.location
        close = difflib.get_close_matches(self.location, known, n=1)
        hint = f" (did you mean '{close[0]}'?)" if close else ""
        raise InputError(f"target.source: unknown shape '{self.location}'{hint}; known: {', '.join(known)}")


def shape_names() -> list[str]:
    """Return the names of all shapes."""
    return sorted(path.parent.name for path in SHAPES.glob("*/config.json"))


def make(options: Location, parts: Parts) -> ShapeSource:
    """Return the source for `shape:...`."""
    return ShapeSource(options.location)
