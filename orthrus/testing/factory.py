"""Factories for the kit of parts that are named: registered ones, and `module:Class`."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from orthrus.build import PartMaker, build_part, build_target, with_drafters
from orthrus.config.compose import ConfigSource, read_overrides
from orthrus.config.schema import NEEDED, Config, NoOptions, PartConfig, load_config
from orthrus.errors import ConfigError, InputError, InterfaceError, PluginError, Problem, reason, unknown
from orthrus.options import CheckedWith
from orthrus.reference.cache import PlainCache
from orthrus.registry.catalog import PARTS
from orthrus.registry.contracts import PROTOCOLS, check_interface, methods
from orthrus.registry.plugins import Plugins
from orthrus.testing.scenes import Scene
from orthrus.values import Parts

HANDED: Mapping[str, tuple[str, ...]] = {
    "drafter": ("target",),
    "target": ("cache",),
}  # what a factory of the kit takes


@dataclass(frozen=True)
class PartFactory:
    """Make the part that a name stands for, from what the kit hands factories of its kind."""

    kind: str
    part: str
    overrides: tuple[str, ...]
    make: Callable[..., Any]

    def __call__(self, *given: Any) -> Any:
        """Return the part; raise BuildError or InputError if it cannot be made here."""
        return self.make(*given)

    def check_interface(self) -> None:
        """Make the part once; raise InterfaceError if it is none of its kind. All else is for the checks."""
        given: dict[str, tuple[Any, ...]] = {"drafter": (Scene().target(),), "target": (PlainCache(),)}
        try:
            self.make(*given.get(self.kind, ()))
        except InterfaceError:
            raise
        except (Exception, SystemExit):  # the checks show it, with a way to see it again
            return

    @property
    def reproduction(self) -> list[str]:
        """The Python that makes this factory again."""
        more = f", {list(self.overrides)!r}" if self.overrides else ""
        return ["from orthrus.testing import factory_of", f'make = factory_of("{self.part}", "{self.kind}"{more})']


def factory_of(
    part: str, kind: str | None = None, overrides: Sequence[str] = (), *, plugins: Plugins | None = None
) -> PartFactory:
    """Return the factory of a registered part, chosen by name, or of a class, `module:Class`.

    kind: where the name or class leaves it open. overrides: options of a registered part, `["drafter.length=5"]`, and
    for a target those of its attention and cache. Those that are not written are what the part's options say as
    `checked_with`, or else their defaults. A target is made once, over the cache of the kit if none is named. plugins:
    those to look in; None: all that are installed. Raises InputError, ConfigError or PluginError for what does not
    exist.
    """
    if kind is not None and kind not in PARTS:
        raise InputError(unknown("kind of part", kind, PARTS))
    if ":" in part:
        if overrides:
            raise InputError(f"'{part}' takes no overrides ({overrides[0]}): options belong to registered parts")
        return _imported(part, kind)
    session = plugins or Plugins.load()
    part_kind = kind or _kind_of(part, session)
    _check_overrides(part_kind, overrides)
    chosen = _with_its_own(part_kind, part, overrides, session)
    config = _config(part_kind, part, chosen, session)
    return PartFactory(part_kind, part, chosen, _registered(part_kind, config, session))


def _kind_of(name: str, session: Plugins) -> str:
    kinds = [kind for kind in PARTS if name in session.catalog.names(kind)]
    if not kinds:
        known = [name for kind in PARTS for name in session.catalog.names(kind)]
        raise InputError(f"{unknown('part', name, known)}; a class is written module:Class")
    if len(kinds) > 1:
        raise InputError(f"'{name}' is the name of {' and '.join(f'a {kind}' for kind in kinds)}; choose with --kind")
    return kinds[0]


def _check_overrides(kind: str, overrides: Sequence[str]) -> None:
    allowed = ("attention", "cache", "target") if kind == "target" else (kind,)
    for item in overrides:
        if item.partition(".")[0] not in allowed:
            keys = " or ".join(f"'{part}.'" for part in allowed)
            raise InputError(
                f"override '{item}' is of no use to the checks of a {kind}: write one that begins with {keys}"
            )


def _with_its_own(kind: str, name: str, overrides: Sequence[str], session: Plugins) -> tuple[str, ...]:
    """Return the overrides, before them the options that the part is checked with where nobody chooses others."""
    if name not in session.catalog.names(kind):
        return tuple(overrides)  # what is wrong is told with the rest of the config
    options = session.get(kind, name).load_options()
    own: object = options.checked_with if isinstance(options, CheckedWith) else ()
    if not isinstance(own, tuple) or not all(isinstance(item, str) and "=" in item for item in own):
        raise PluginError(
            f"the options of {kind} '{name}' have checked_with={own!r}, wanted a tuple of texts such as 'length=4'"
        )
    written = {override.partition("=")[0] for override in overrides}
    added = [f"{kind}.{item}" for item in own]
    return (*(item for item in added if item.partition("=")[0] not in written), *overrides)


def _config(kind: str, name: str, overrides: Sequence[str], session: Plugins) -> Config:
    parts = [part for part in NEEDED if part != kind]
    missing_ok = (*parts, "cache") if kind == "target" else PARTS
    layers = [ConfigSource("argument", {kind: {"name": name}}), read_overrides(overrides)]
    try:
        return load_config({}, layers, session, missing_ok=missing_ok)
    except ConfigError as error:
        raise ConfigError([_with_advice(problem) for problem in error.problems]) from error


def _with_advice(problem: Problem) -> Problem:
    required = problem.message.startswith("is required")
    return replace(problem, message=f"{problem.message}; write {problem.key}=...") if required else problem


def _registered(kind: str, config: Config, session: Plugins) -> Callable[..., Any]:
    chosen: PartConfig = getattr(config, kind)
    if kind == "drafter":
        maker = PartMaker(config, session, lambda message: None)
        return lambda target: build_part(kind, chosen, with_drafters(Parts(target=target, make=maker)))
    if kind != "target":
        return lambda: build_part(kind, chosen, Parts())
    loaded: list[Any] = []  # loading a model takes its time

    def target(cache: Any) -> Any:
        if not loaded:
            loaded.append(build_target(config, session, objects={} if config.cache else {"cache": cache}))
        return loaded[0]

    return target


def _imported(location: str, kind: str | None) -> PartFactory:
    module, _, name = location.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:  # as `python -m` has it
        sys.path.insert(0, here)
    try:
        imported = getattr(importlib.import_module(module), name)
    except (Exception, SystemExit) as error:  # somebody else's module may fail in any way
        raise InputError(f"'{location}' cannot be imported: {reason(error)}") from error
    if not callable(imported):
        raise InputError(f"'{location}' is a {type(imported).__name__}, wanted a class or a function that makes a part")
    of = kind or _kind_by_members(imported, location)
    make = _adapted(imported, of, location)

    def checked(*given: Any) -> Any:
        part = make(*given)
        check_interface(of, part, f"{of} '{location}'")
        return part

    return PartFactory(of, location, (), checked)


def _kind_by_members(part: Any, location: str) -> str:
    """Return the kind whose methods a class has."""
    kinds = [kind for kind in PARTS if all(hasattr(part, name) for name in methods(PROTOCOLS[kind]))]
    if len(kinds) != 1:
        raise InputError(
            f"it cannot be told which kind of part '{location}' makes; say so with --kind, one of {', '.join(PARTS)}"
        )
    return kinds[0]


def _adapted(part: Callable[..., Any], kind: str, location: str) -> Callable[..., Any]:
    """Return a factory of the kit for a class that takes what the kit hands over, nothing, or options and parts."""
    empty = inspect.Parameter.empty
    try:
        parameters = inspect.signature(part).parameters
    except (TypeError, ValueError) as error:  # of a class that is not written in Python
        raise InputError(f"it cannot be told what '{location}' takes: {error}") from error
    required = [
        name
        for name, parameter in parameters.items()
        if parameter.default is empty and parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
    ]
    handed = HANDED.get(kind, ())
    if len(required) == 2:
        return lambda *given: part(NoOptions(), Parts(**dict(zip(handed, given, strict=True))))
    if len(required) <= len(handed):
        return lambda *given: part(*given[: len(required)])
    takes = " and ".join(required)
    offered = f"the {handed[0]}" if handed else "nothing"
    raise InputError(f"'{location}' takes {takes}; a {kind} is handed {offered}, or options and parts")
