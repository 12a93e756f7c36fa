"""Repro code of a failure: the factory's import, or a comment that says which it was, and the one case."""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any


def reproduction(kind: str, name: str, factory: Callable[..., Any], case: Any) -> list[str]:
    """Return lines that can be pasted; where the factory cannot be imported, a comment says which it was."""
    used = sorted({"named_check", *_classes(case)})
    given = getattr(factory, "reproduction", None)  # a factory may say how it is made again
    return [
        f"from orthrus.testing import {', '.join(used)}",
        *(given or _imported(factory) or [f"# make is {_described(factory)}"]),
        f'named_check("{kind}", "{name}")(make, {case!r})',
    ]


def _classes(case: Any) -> set[str]:
    """Return the names of the kit's classes in a case's repr."""
    tree = ast.parse(repr(case), mode="eval")
    return {node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}


def _imported(factory: Callable[..., Any]) -> list[str] | None:
    """Return the import of a class, a function or a method of a class; None for what has no name in its module."""
    module, path = getattr(factory, "__module__", None), getattr(factory, "__qualname__", "")
    holder: Any = sys.modules.get(module) if isinstance(module, str) else None
    for step in path.split("."):
        holder = getattr(holder, step, None)
    if holder is None or holder != factory:
        return None
    outer, _, inner = path.partition(".")
    return [f"from {module} import {outer}", f"make = {path}"] if inner else [f"from {module} import {outer} as make"]


def _described(factory: Callable[..., Any]) -> str:
    """Return the name of a factory, and where it is written."""
    name = getattr(factory, "__qualname__", None)
    if name is None:
        return f"an object of {type(factory).__name__}"
    try:
        file, line = inspect.getsourcefile(factory), inspect.getsourcelines(factory)[1]
    except (OSError, TypeError):
        return f"{name}, of the module {getattr(factory, '__module__', None)}"
    return f"{name}, of {Path(file or '').name}, line {line}"
