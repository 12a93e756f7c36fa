"""The schema check of a results file: values of another type than their fields'."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any, Union

from orthrus.errors import shown

LARGEST = 1e100  # beyond it is infinity, or as good as that; NaN is in no range
WORDS = {float: "a number", int: "an integer", str: "text"}


def find_damage(value: Any, hint: Any, path: str = "") -> Iterator[str]:
    """Yield a sentence for every value, inside dataclasses too, that is not of its annotated type."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (Union, types.UnionType):
        if value is not None:
            yield from find_damage(value, next(argument for argument in arguments if argument is not type(None)), path)
    elif dataclasses.is_dataclass(hint):
        hints = typing.get_type_hints(hint)
        for field in dataclasses.fields(hint):
            yield from find_damage(getattr(value, field.name), hints[field.name], f"{path}.{field.name}".lstrip("."))
    elif origin is tuple:
        yield from _in_tuple(value, arguments, path)
    elif not _fits(value, origin or hint):
        yield f"{path} is {shown(value)}, not {WORDS.get(hint, 'an object')}"


def _in_tuple(value: tuple[Any, ...], arguments: tuple[Any, ...], path: str) -> Iterator[str]:
    length = len(value) if arguments[1] is Ellipsis else len(arguments)
    if len(value) != length:
        yield f"{path} has {len(value)} values, not {length}"
    for index, item in enumerate(value):
        yield from find_damage(item, arguments[0], f"{path}[{index}]")


def _fits(value: Any, kind: Any) -> bool:
    if kind is Any or kind is Mapping:
        return kind is Any or isinstance(value, Mapping)
    if kind is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool) and -LARGEST < value < LARGEST
    return isinstance(value, kind) and not isinstance(value, bool)
