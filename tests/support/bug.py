"""A seeded bug: a part that is broken in one way, or the loop while it is, and the check that must name it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any
from unittest import mock


@dataclass(frozen=True)
class Bug:
    """Hold a broken part.

    kind: of its checks. what: in words, as the docs' table has it. check: the one that must name it. make: its factory,
    of an honest part where it is the loop that `plant` breaks.
    """

    kind: str
    what: str
    check: str
    make: Callable[..., Any]
    plant: Callable[[], AbstractContextManager[Any]] = nullcontext

    def __str__(self) -> str:
        return f"{self.kind}: {self.what}"


def replaced(owner: object, name: str, value: object) -> Callable[[], AbstractContextManager[Any]]:
    """Return what puts another value in the place of an attribute, for a while."""

    @contextmanager
    def plant() -> Iterator[None]:
        with mock.patch.object(owner, name, value):
            yield

    return plant
