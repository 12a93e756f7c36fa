"""Reads what the command line says of a benchmark: lists of numbers, swept keys, labelled overrides."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from orthrus.config.compose import ConfigSource, read_overrides
from orthrus.errors import InputError, shown

LARGEST = 10_000_000  # tokens of a context or rows of a batch; no device holds more


@dataclass(frozen=True)
class Swept:
    """One swept key, and for each of its values the value and the layer that sets it."""

    key: str
    settings: tuple[tuple[Any, ConfigSource], ...]


def read_integers(flag: str, text: str) -> tuple[int, ...]:
    """Return the numbers of a list such as `1,8,32`; raise InputError for anything else, or one below 1."""
    items = [item.strip() for item in text.split(",")]
    for item in items:
        if not item.isascii() or not item.isdigit() or len(item) > 9 or not 1 <= int(item) <= LARGEST:
            numbers = f"whole numbers from 1 to {LARGEST}"
            raise InputError(f"{flag} must be {numbers}, separated by commas, not {shown(text)}")
    return _once(flag, [int(item) for item in items])


def read_sweep(text: str) -> Swept:
    """Return the swept key of `KEY=V1,V2,...`, its values in YAML; raise InputError if it is written otherwise."""
    key, equals, listed = text.partition("=")
    values = _listed(listed) if equals else None
    if not values:
        raise InputError(f"--sweep {shown(text)} must be written KEY=VALUE,VALUE,... such as drafter.block=8,16,32")
    layers = [read_overrides([f"{key}={value}"]) for value in _once(f"--sweep {key}", values)]
    return Swept(key, tuple((_value(layer, key), layer) for layer in layers))


def read_labelled(flag: str, text: str, needed: bool) -> tuple[str, list[str]]:
    """Return label and overrides of `LABEL: KEY=VALUE ...`, quoted as in a shell; needed: there must be overrides."""
    label, _, rest = text.partition(":")
    try:
        overrides = shlex.split(rest)
    except ValueError as error:
        raise InputError(f"{flag} {shown(text)}: {str(error).lower()}") from None
    if not label.strip() or "=" in label or (needed and not overrides):
        raise InputError(f'{flag} {shown(text)} must be written "LABEL: KEY=VALUE ..."')
    return label.strip(), overrides


def _listed(text: str) -> list[str]:
    """Return the texts of a YAML list's items, commas inside brackets and quotes left alone; [] if it is no list."""
    inside = f"[{text}]"
    try:
        node = yaml.compose(inside)
    except yaml.YAMLError:
        return []
    if not isinstance(node, yaml.SequenceNode) or node.end_mark.index != len(inside):
        return []
    return [inside[item.start_mark.index : item.end_mark.index] for item in node.value]


def _value(layer: ConfigSource, key: str) -> Any:
    value: Any = layer.values
    for name in key.split("."):
        value = value[name]
    return value


def _once(what: str, values: Sequence[Any]) -> tuple[Any, ...]:
    twice = [value for index, value in enumerate(values) if value in values[:index]]
    if twice:
        raise InputError(f"{what} names {twice[0]} twice")
    return tuple(values)
