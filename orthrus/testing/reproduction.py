"""Python that shows a failure again: the factory as it was written, as far as that can be told, and the one case."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable
from types import FunctionType
from typing import Any


def reproduction(kind: str, name: str, factory: Callable[..., Any], case: Any) -> list[str]:
    """Return lines that can be pasted; where the factory cannot be told, a comment says what to put there."""
    used = sorted({"named_check", *_classes(case)})
    return [
        f"from orthrus.testing import {', '.join(used)}",
        *_factory(factory),
        f'named_check("{kind}", "{name}")(make, {case!r})',
    ]


def _classes(case: Any) -> set[str]:
    """Return the names of the kit's classes in a case's repr."""
    tree = ast.parse(repr(case), mode="eval")
    return {node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}


def _factory(factory: Callable[..., Any]) -> list[str]:
    given = getattr(factory, "reproduction", None)  # a factory may say how it is made again
    if given is not None:
        return list(given)
    source = _lambda(factory) if isinstance(factory, FunctionType) and factory.__name__ == "<lambda>" else None
    if source is not None:
        return source
    name, module = getattr(factory, "__qualname__", ""), getattr(factory, "__module__", "")
    if name.isidentifier():
        return [f"from {module} import {name} as make"]
    return ["make = ...  # the factory that was checked"]


def _lambda(factory: FunctionType) -> list[str] | None:
    """Return an import of the names that a lambda uses, and the lambda; None if it cannot be told."""
    try:
        tree = ast.parse(inspect.getsource(inspect.getmodule(factory) or factory))
    except (OSError, TypeError, SyntaxError):
        return None
    line = factory.__code__.co_firstlineno
    found = [node for node in ast.walk(tree) if isinstance(node, ast.Lambda) and node.lineno == line]
    if len(found) != 1 or factory.__closure__:
        return None
    names = sorted(name for name in factory.__code__.co_names if name in factory.__globals__)
    imported = [f"from {factory.__module__} import {', '.join(names)}"] if names else []
    return [*imported, f"make = {ast.unparse(found[0])}"]
