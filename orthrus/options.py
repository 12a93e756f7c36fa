"""A part's options: a dataclass whose fields say what they mean, what they may be, and what they are by default."""

from __future__ import annotations

import dataclasses
import functools
import math
import re
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any, Literal, Protocol, Union, runtime_checkable

from orthrus.errors import shown, unknown

REQUIRED = dataclasses.MISSING
MAPPINGS = (dict, Mapping)
DECIMAL = re.compile(r"0|[1-9][0-9]*")  # and not 017, which is 15 in YAML


@runtime_checkable
class HasProblems(Protocol):
    """Options that say what else is wrong with them."""

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield each problem: a key and a sentence."""


@runtime_checkable
class HasConflicts(Protocol):
    """Options that say what of the rest of a config they do not go with."""

    def conflicts(self, config: Any) -> Iterator[tuple[str, str]]:
        """Yield each conflict: a dotted key and a sentence."""


@runtime_checkable
class HasSource(Protocol):
    """Options of a target whose model comes from a source."""

    source: str


@runtime_checkable
class HasChat(Protocol):
    """Options of a target that say whether text prompts go through its chat template."""

    chat: bool


@runtime_checkable
class HasTokenizerSource(Protocol):
    """Options of a target that say where its tokenizer comes from, if not from where the model does."""

    tokenizer: str | None


@runtime_checkable
class HasDtypeName(Protocol):
    """Options of a part that name the dtype of its weights."""

    dtype: str


@runtime_checkable
class RequiresParts(Protocol):
    """Options of a target that needs other parts."""

    requires: tuple[str, ...]


@runtime_checkable
class CheckedWith(Protocol):
    """Options, or their class, that say with which the conformance kit makes the part."""

    checked_with: tuple[str, ...]


def option(
    default: Any = REQUIRED,
    *,
    help: str,
    minimum: float | None = None,
    maximum: float | None = None,
) -> Any:
    """Declare an option as a dataclass field; without a default it is required.

    Lists and dicts may be given as defaults. minimum and maximum bound numbers, both included; choices are declared by
    the type: `Literal["a", "b"]`.
    """
    metadata = {"help": help, "minimum": minimum, "maximum": maximum}
    if isinstance(default, (list, dict)):
        return dataclasses.field(default_factory=lambda: type(default)(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def parse(schema: type, values: Mapping[str, Any]) -> tuple[Any, list[tuple[str, str]]]:
    """Return an instance of the dataclass and all problems, each a key and a sentence; the instance is None if any.

    A schema may have a method `problems()` that yields further (key, sentence) pairs: for what one field's type and
    bounds cannot say.
    """
    hints = _type_hints(schema)
    fields = {field.name: field for field in dataclasses.fields(schema)}
    problems = [(key, unknown("option", str(key), fields)) for key in values if key not in fields]
    for name, option_field in fields.items():
        if name not in values:
            if option_field.default is REQUIRED and option_field.default_factory is REQUIRED:
                problems.append((name, f"is required: {option_field.metadata.get('help', '')}"))
        elif message := mismatch(values[name], hints[name], option_field.metadata):
            problems.append((name, message))
    if problems:
        return None, problems
    value = schema(**{name: _freeze(values[name], hints[name]) for name in fields if name in values})
    problems = list(value.problems()) if isinstance(value, HasProblems) else []
    return (None if problems else value), problems


@functools.lru_cache(256)
def _type_hints(schema: type) -> Mapping[str, Any]:
    """Return the types of a dataclass's fields; requests of a session are parsed by the same few, again and again."""
    return typing.get_type_hints(schema)


def describe(schema: type | None) -> Iterator[dict[str, Any]]:
    """Yield name, type, default and help of each option, for `orthrus plugins` and the docs."""
    hints = typing.get_type_hints(schema) if schema else {}
    for field in dataclasses.fields(schema) if schema else ():
        default = field.default_factory() if field.default_factory is not REQUIRED else field.default
        yield {
            "name": field.name,
            "type": _spell(hints[field.name]),
            "required": default is REQUIRED,
            "default": None if default is REQUIRED else _plain(default),
            "help": field.metadata.get("help", ""),
        }


def mismatch(value: Any, hint: Any, bounds: Mapping[str, Any] | None = None) -> str | None:
    """Return what a value must be and is not, by its type and its bounds `minimum` and `maximum`; None if it is.

    Without bounds its numbers may be any, NaN among them.
    """
    if not _fits(value, hint):
        return f"must be {_spell(hint)}, not {shown(value)}"
    return None if bounds is None else _out_of_bounds(value, bounds)


def _fits(value: Any, hint: Any) -> bool:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (Union, types.UnionType):
        return any(_fits(value, argument) for argument in arguments)
    if origin is Literal:
        return any(value == choice and type(value) is type(choice) for choice in arguments)
    if origin is tuple and arguments[-1] is not Ellipsis and isinstance(value, (list, tuple)):
        return len(value) == len(arguments) and all(map(_fits, value, arguments))
    if origin in (list, tuple, frozenset):
        return isinstance(value, (list, tuple, frozenset)) and all(_fits(item, arguments[0]) for item in value)
    if origin in MAPPINGS:
        return isinstance(value, dict) and all(
            _fits(_key(key, arguments[0]), arguments[0]) and _fits(item, arguments[1]) for key, item in value.items()
        )
    if hint is type(None):
        return value is None
    if hint is float:  # YAML writes 1 for 1.0
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return hint is Any or isinstance(value, hint)


def _out_of_bounds(value: Any, metadata: Mapping[str, Any]) -> str | None:
    values = value.values() if isinstance(value, Mapping) else value
    for item in values if isinstance(value, (list, tuple, frozenset, Mapping)) else [value]:
        if isinstance(item, bool) or not isinstance(item, (int, float)):
            continue
        minimum, maximum = metadata.get("minimum"), metadata.get("maximum")
        if isinstance(item, int) and not -(2**63) <= item < 2**64:
            return f"must fit into 64 bits; it is {shown(item)}"
        if math.isnan(item):
            return "must be a number, not nan"
        if minimum is not None and item < minimum:
            return f"must be at least {minimum}, not {item}"
        if maximum is not None and item > maximum:
            return f"must be at most {maximum}, not {item}"
    return None


def _freeze(value: Any, hint: Any) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (tuple, frozenset):
        return origin(_freeze(item, arguments[0]) for item in value)
    if origin in (Union, types.UnionType):
        return _freeze(value, next(argument for argument in arguments if _fits(value, argument)))
    if origin in MAPPINGS:
        return {_key(key, arguments[0]): _freeze(item, arguments[1]) for key, item in value.items()}
    return float(value) if hint is float else value


def _key(key: Any, hint: Any) -> Any:
    """Return a mapping's key as the number that it is to be: an override writes it as text."""
    return int(key) if hint is int and isinstance(key, str) and DECIMAL.fullmatch(key) else key


def _plain(value: Any) -> Any:
    return sorted(value) if isinstance(value, frozenset) else list(value) if isinstance(value, tuple) else value


def _spell(hint: Any) -> str:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (Union, types.UnionType):
        return " or ".join(_spell(argument) for argument in arguments)
    if origin is Literal:
        return " or ".join(repr(choice) for choice in arguments)
    if origin is tuple and arguments[-1] is not Ellipsis:
        return f"a list of {len(arguments)}: {', '.join(map(_spell, arguments))}"
    if origin in (list, tuple, frozenset):
        return f"a list of {_spell(arguments[0])}"
    if origin in MAPPINGS:
        keys = "" if arguments[0] is str else f" from {_spell(arguments[0])}"
        return f"a mapping{keys} to {_spell(arguments[1])}"
    names = {
        int: "an integer",
        float: "a number",
        str: "text",
        bool: "true or false",
        type(None): "null",
        Any: "anything",
    }
    return names.get(hint, getattr(hint, "__name__", str(hint)))
