"""The parts of a decoder that is being built, and the location of a source."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from orthrus.errors import BuildError


@dataclass(frozen=True)
class Location:
    """The part of a source after its scheme, as in `package:module/file`."""

    location: str


@dataclass(frozen=True)
class Parts:
    """The parts built so far, in building order; a factory reads those before it.

    make: builds a further part for the caller alone, see `orthrus.interfaces.MakePart`.
    """

    source: Any = None
    attention: Any = None
    cache: Any = None
    target: Any = None
    drafter: Any = None
    verifier: Any = None
    notify: Any = field(default=lambda message: None)
    make: Any = field(default=lambda kind, options=None: _made_by_nobody(kind))


def _made_by_nobody(kind: str) -> Any:
    raise BuildError(f"no {kind} can be made here: only what a config composes is built from the catalog")
