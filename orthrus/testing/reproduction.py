"""Repro code of a failure: how the factory came about, as far as that can be told, and the one case."""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import Any

from orthrus.testing.origin import origin_of


def reproduction(kind: str, name: str, factory: Callable[..., Any], case: Any) -> list[str]:
    """Return lines that can be pasted; where the factory cannot be told, a comment says what `make` has to be."""
    used = sorted({"named_check", *_classes(case)})
    given = getattr(factory, "reproduction", None)  # a factory may say how it is made again
    return [
        f"from orthrus.testing import {', '.join(used)}",
        *(origin_of(factory) if given is None else given),
        f'named_check("{kind}", "{name}")(make, {case!r})',
    ]


def _classes(case: Any) -> set[str]:
    """Return the names of the kit's classes in a case's repr."""
    tree = ast.parse(repr(case), mode="eval")
    return {node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
