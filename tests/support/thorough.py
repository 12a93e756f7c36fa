"""Marks what only the thorough part of the tests has: more values of what the default run has one or two of."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import pytest


def thorough_but(kept: Collection[Any], values: Iterable[Any]) -> list[Any]:
    """Return the values of a parameter, marked as thorough unless they are kept for every run.

    A value for several parameters is a tuple. Raises ValueError if one that is kept is none of the values.
    """
    values = list(values)
    if missing := [one for one in kept if one not in values]:
        raise ValueError(f"{missing} are no values")
    return [one if one in kept else _thorough(one) for one in values]


def _thorough(value: Any) -> Any:
    several = value if isinstance(value, tuple) else (value,)
    return pytest.param(*several, marks=pytest.mark.thorough)
