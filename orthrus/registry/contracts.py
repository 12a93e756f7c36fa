"""Validates the attributes that a part declares. Catches `needs = "views"`, a string, where a set of names is meant."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Set
from difflib import get_close_matches
from numbers import Integral
from typing import Any

from orthrus import interfaces
from orthrus.errors import InterfaceError, shortened, unknown
from orthrus.optional import CoupledVerifier, Named
from orthrus.values import AttentionCapabilities

PROTOCOLS: Mapping[str, type] = {
    "attention": interfaces.AttentionBackend,
    "cache": interfaces.KVCache,
    "target": interfaces.Target,
    "drafter": interfaces.Drafter,
    "verifier": interfaces.Verifier,
    "baseline": interfaces.Baseline,
}


CAPABILITIES = ("tokenizer", "logits", "embeddings", "hidden_states", "views", "training")  # of targets
KINDS = ("causal", "block", "tree", "blocks")  # of masks
Wrong = Iterator[tuple[str, str]]


def declared_wrongly(kind: str, part: Any, closed: bool = False) -> Wrong:
    """Yield (attribute, what it is and what was wanted) for what a part, which has all members, declares wrongly.

    A target and a drafter may agree on capabilities of their own, if they are not those that exist misspelled; closed:
    only those that exist will do, as for the kit, which does not know what others mean.
    """
    if kind in _DECLARED:
        yield from _DECLARED[kind](part)
    if kind in ("drafter", "target"):
        attribute = "needs" if kind == "drafter" else "capabilities"
        yield from _foreign(attribute, getattr(part, attribute), closed)


def _drafter(part: Any) -> Wrong:
    yield from _named(part)
    yield from _set("needs", part.needs, str, "names", _one_of(part.needs))
    yield from _flag("learns", part.learns)


def _verifier(part: Any) -> Wrong:
    yield from _flag("greedy", part.greedy)
    yield from _flag("coupled", part.coupled if isinstance(part, CoupledVerifier) else False)


def _target(part: Any) -> Wrong:
    yield from _named(part)
    yield from _set("capabilities", part.capabilities, str, "names", _one_of(part.capabilities))
    yield from _integer("vocabulary_size", part.vocabulary_size)
    if part.max_length is not None:
        yield from _integer("max_length", part.max_length, " or None")
    yield from _set("stop_token_ids", part.stop_token_ids, int, "token ids", "frozenset({2})")


def _attention(part: Any) -> Wrong:
    can = part.capabilities
    if not isinstance(can, AttentionCapabilities):
        yield "capabilities", f"{shortened(repr(can))}, wanted an AttentionCapabilities"
        return
    yield from _names("capabilities.kinds", can.kinds, KINDS)
    yield from _names("capabilities.devices", can.devices, example="cuda")
    yield from _names("capabilities.dtypes", can.dtypes, example="bfloat16")
    yield from _set("capabilities.head_sizes", can.head_sizes, int, "numbers", "frozenset({64, 128})")
    for name in ("windows", "softcap", "sinks", "graphs"):
        yield from _flag(f"capabilities.{name}", getattr(can, name))


_DECLARED: Mapping[str, Callable[[Any], Wrong]] = {
    "attention": _attention,
    "target": _target,
    "drafter": _drafter,
    "verifier": _verifier,
}


def _named(part: Any) -> Wrong:
    name: object = part.name if isinstance(part, Named) else ""
    if not isinstance(name, str):
        yield "name", f"{shortened(repr(name))}, wanted a text"


def _names(attribute: str, value: object, known: tuple[str, ...] = (), example: str = "") -> Wrong:
    yield from _set(attribute, value, str, "names", _one_of(value, example or known[-2]))
    for name in _unknown(value, known) if known else ():
        yield attribute, unknown("name", name, known)


def _foreign(attribute: str, value: object, closed: bool) -> Wrong:
    for name in _unknown(value, CAPABILITIES):
        if closed or get_close_matches(name, CAPABILITIES, cutoff=0.8):
            yield attribute, unknown("name", name, CAPABILITIES)


def _unknown(value: object, known: tuple[str, ...]) -> list[str]:
    return (
        sorted(name for name in value if isinstance(name, str) and name not in known) if isinstance(value, Set) else []
    )


def _one_of(value: object, example: str = CAPABILITIES[-2]) -> str:
    """Return a set as it is written, of the text that a value is, or else of an example."""
    meant = value if isinstance(value, str) else example
    return f"frozenset({{{meant!r}}})"


def _set(attribute: str, value: object, of: type, what: str, example: str) -> Wrong:
    if not isinstance(value, Set) or not all(isinstance(item, of) for item in value):
        yield attribute, f"{shortened(repr(value))}, wanted a set of {what}: {example}"


def _flag(attribute: str, value: object) -> Wrong:
    if not isinstance(value, bool):
        yield attribute, f"{shortened(repr(value))}, wanted True or False"


def _integer(attribute: str, value: object, otherwise: str = "") -> Wrong:
    if not isinstance(value, Integral) or isinstance(value, bool) or int(value) < 1:
        yield attribute, f"{shortened(repr(value))}, wanted an integer of 1 or more{otherwise}"


def members(protocol: type) -> list[str]:
    """Return the public names that an implementation of a protocol must have."""
    names = [*getattr(protocol, "__annotations__", {}), *vars(protocol)]
    return sorted({name for name in names if not name.startswith("_")})


def methods(protocol: type) -> list[str]:
    """Return those of its members that are called."""
    return [name for name in members(protocol) if inspect.isfunction(vars(protocol).get(name))]


def check_interface(name: str, part: Any, what: str) -> None:
    """Raise InterfaceError if an object is no part of this kind; what: what the sentence calls it."""
    protocol = PROTOCOLS[name]
    if inspect.isclass(part):
        raise InterfaceError(f"{what} is the class {part.__name__}, not an object of it")
    missing = [member for member in members(protocol) if not hasattr(part, member)]
    if missing:
        raise InterfaceError(f"{what} is no {protocol.__name__}: it lacks {', '.join(missing)}")
    for member in methods(protocol):
        if not callable(getattr(part, member)):
            raise InterfaceError(f"{what} is no {protocol.__name__}: its `{member}` is no method")
    for attribute, wrong in declared_wrongly(name, part):
        raise InterfaceError(f"{what} declares `{attribute}` wrongly: {wrong}")
