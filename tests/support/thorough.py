"""Marks what `make test` leaves to `make thorough` and `make nightly`: more values of what it has one or two of."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import pytest

PROFILE = "ORTHRUS_PROFILE"  # as `orthrus.testing.profiles` calls it, which takes two seconds to import
OTHERS = "not independent and not clients and not browser and not ray"  # what commands of their own run
EVERY_RUN = f"not thorough and not nightly and {OTHERS}"  # the marks that pyproject.toml asks for


def marks_of(profile: str | None, asked: str) -> str:
    """Return the marks of a run: the profile `nightly` has all cases, unless others than usual are asked for."""
    return OTHERS if profile == "nightly" and asked == EVERY_RUN else asked


def thorough_but(kept: Collection[Any], values: Iterable[Any]) -> list[Any]:
    """Return the values of a parameter, marked as thorough unless they are kept for every run.

    A value for several parameters is a tuple. Raises ValueError if one that is kept is none of the values.
    """
    values = list(values)
    return nightly_but(kept, values, thorough=values)


def nightly_but(kept: Collection[Any], values: Iterable[Any], thorough: Collection[Any] = ()) -> list[Any]:
    """Return the values of a parameter, marked as nightly unless they are kept for every run, or thorough.

    A value for several parameters is a tuple. Raises ValueError if one that is kept or thorough is none of the values.
    """
    values = list(values)
    if missing := [value for value in (*kept, *thorough) if value not in values]:
        raise ValueError(f"{missing} are no values")
    return [
        value if value in kept else _marked(value, "thorough" if value in thorough else "nightly") for value in values
    ]


def _marked(value: Any, name: str) -> Any:
    several = value if isinstance(value, tuple) else (value,)
    return pytest.param(*several, marks=getattr(pytest.mark, name))
