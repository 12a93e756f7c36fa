"""Python that makes a factory again: its import, its source with all that it uses, or a comment that says what it is.

What a function uses is imported, if it stands in a module, or written down, if it is a plain value; a comment names the
rest.
"""

from __future__ import annotations

import ast
import builtins
import inspect
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

Written = ast.Lambda | ast.FunctionDef
Within = tuple[object, ...]  # functions whose source is being written
MAKE = "make"
LONGEST = 200  # letters of a plain value


def origin_of(factory: Callable[..., Any]) -> list[str]:
    """Return lines after which `make` is the factory, or a comment that says which it was."""
    return _bound(MAKE, factory) or [f"# {MAKE} is what was given to the check: {_described(factory)}"]


def _bound(name: str, value: Any, within: Within = ()) -> list[str] | None:
    """Return lines after which a name stands for a value, or None if it cannot be told."""
    if any(value is outer for outer in within):
        return []  # it is written already, further out
    for lines in (_imported(name, value), _literal(name, value), _partial(name, value, within)):
        if lines is not None:
            return lines
    return _source(name, value, within) if isinstance(value, FunctionType) else None


def _imported(name: str, value: Any) -> list[str] | None:
    module, path = getattr(value, "__module__", None), getattr(value, "__qualname__", "")
    if inspect.ismodule(value):
        return [f"import {value.__name__}" + ("" if name == value.__name__ else f" as {name}")]
    holder: Any = sys.modules.get(module) if isinstance(module, str) else None
    for step in path.split("."):
        holder = getattr(holder, step, None)
    if holder is None or holder != value:
        return None
    outer, _, _ = path.partition(".")
    if path != outer:
        return [f"from {module} import {outer}", f"{name} = {path}"]
    return [f"from {module} import {outer}" + ("" if outer == name else f" as {name}")]


def _literal(name: str, value: Any) -> list[str] | None:
    try:
        text = repr(value)
        same = len(text) <= LONGEST and ast.literal_eval(text) == value
    except Exception:  # of whatever a value does when it is shown or compared
        return None
    return [f"{name} = {text}"] if same is True else None


def _partial(name: str, value: Any, within: Within) -> list[str] | None:
    if not isinstance(value, partial):
        return None
    given = {f"given_{number}": argument for number, argument in enumerate((*value.args, *value.keywords.values()))}
    bound = [_bound(key, argument, within) for key, argument in {"inner": value.func, **given}.items()]
    if any(lines is None for lines in bound):
        return None
    names = list(given)
    words = [*names[: len(value.args)], *map("{}={}".format, value.keywords, names[len(value.args) :])]
    lines = [line for part in bound for line in part or ()]
    return ["from functools import partial", *lines, f"{name} = partial({', '.join(['inner', *words])})"]


def _source(name: str, function: FunctionType, within: Within) -> list[str] | None:
    """Return a function as it was written, after all that it uses."""
    node = _written(function)
    if node is None:
        return None
    used = [line for lines in _used(node, function, (*within, function)) for line in lines]
    if isinstance(node, ast.Lambda):
        return [*used, f"{name} = {ast.unparse(node)}"]
    return [*used, *ast.unparse(node).splitlines(), *([f"{name} = {node.name}"] if node.name != name else [])]


def _written(function: FunctionType) -> Written | None:
    """Return a function's own part of its source; None if there is none, or it is not the only one that fits."""
    try:
        tree = ast.parse("".join(inspect.findsource(function)[0]))
    except (OSError, TypeError, SyntaxError):
        return None
    line = function.__code__.co_firstlineno
    kind = ast.Lambda if function.__name__ == "<lambda>" else ast.FunctionDef
    nodes = [node for node in ast.walk(tree) if isinstance(node, kind) and node.lineno == line]
    if len(nodes) > 1:  # on one line
        nodes = [node for node in nodes if _place(node) in _places(function.__code__)]
    return nodes[0] if len(nodes) == 1 and not getattr(nodes[0], "decorator_list", ()) else None


def _place(node: Any) -> tuple[int, int, int, int]:
    body = node.body
    return body.lineno, body.end_lineno, body.col_offset, body.end_col_offset


def _places(code: CodeType) -> set[tuple[int | None, int | None, int | None, int | None]]:
    """Return the places in the source that the instructions of a function came from."""
    return set(code.co_positions())


def _used(node: Written, function: FunctionType, within: Within) -> Iterator[list[str]]:
    """Yield lines for each name that a function finds outside of itself."""
    loaded = {
        name_node.id
        for name_node in ast.walk(node)
        if isinstance(name_node, ast.Name) and isinstance(name_node.ctx, ast.Load)
    }
    defaults = _defaults(node, function)
    outside = {**function.__globals__, **_closed_over(function), **defaults}
    for name in sorted((loaded - _own(node)) | set(defaults)):
        if name in outside:
            value = outside[name]
            written = _bound(name, value, within)
            yield (
                _from_module(name, value, function) or [f"# {name} is {_described(value)}"]
                if written is None
                else written
            )
        elif not hasattr(builtins, name):
            yield [f"# {name} is what it was in {_place_of(function)}"]


def _own(node: Written) -> set[str]:
    """Return the names that a function gives to something itself."""
    names: set[str] = set()
    for child in ast.walk(node):
        if isinstance(child, ast.Name) and isinstance(child.ctx, ast.Store):
            names.add(child.id)
        elif isinstance(child, ast.arg):
            names.add(child.arg)
        elif isinstance(child, ast.FunctionDef | ast.ClassDef) and child is not node:
            names.add(child.name)
        elif isinstance(child, ast.alias):
            names.add(child.asname or child.name.partition(".")[0])
    return names


def _closed_over(function: FunctionType) -> dict[str, Any]:
    values = {}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            values[name] = cell.cell_contents
        except ValueError:  # it was not set yet
            continue
    return values


def _defaults(node: Written, function: FunctionType) -> dict[str, Any]:
    """Return what the names that stand for defaults were when the function was made."""
    positional = zip(node.args.defaults, function.__defaults__ or (), strict=False)  # others may have set them since
    named = [
        (default, (function.__kwdefaults__ or {}).get(argument.arg))
        for argument, default in zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True)
    ]
    return {default.id: value for default, value in (*positional, *named) if isinstance(default, ast.Name)}


def _from_module(name: str, value: Any, function: FunctionType) -> list[str] | None:
    """Return the import of a value from the module of a function, whatever it is."""
    inside = function.__globals__.get(name) is value
    return [f"from {function.__module__} import {name}"] if inside else None


def _described(value: Any) -> str:
    name = getattr(value, "__qualname__", None)
    if name is None:
        return f"an object of {type(value).__name__}"
    return f"{name}, of {_place_of(value)}"


def _place_of(value: Any) -> str:
    try:
        file, line = inspect.getsourcefile(value), inspect.getsourcelines(value)[1]
    except (OSError, TypeError):
        return f"the module {getattr(value, '__module__', None)}"
    return f"{Path(file or '').name}, line {line}"
