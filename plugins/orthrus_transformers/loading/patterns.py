"""Names by patterns, and values cut short for a sentence: what checks of a model's files have in common."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase

LONGEST = 40  # characters of a value in a sentence


def matches(name: str, patterns: Iterable[str]) -> bool:
    """Return whether a name is one of the patterns, in which * stands for anything."""
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def shortened(text: str) -> str:
    """Return a text that is no longer than a sentence can bear."""
    return text if len(text) <= LONGEST else text[: LONGEST - 3] + "..."
