"""The plugin manager of a session: entry point by entry point. No plugin is named here, and none lives in a global."""

from __future__ import annotations

import dataclasses
import inspect
import os
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import pluggy

from orthrus import hookspecs
from orthrus.errors import PluginError, reason, unknown
from orthrus.registry.catalog import KINDS, RESERVED, WATCH_HOOKS, Catalog, Entry, conflict
from orthrus.registry.hook_checks import check_hooks

GROUP = "orthrus.plugins"
ONLY = "ORTHRUS_PLUGINS"  # load only these entry points, separated by commas; empty: none
STRICT = "ORTHRUS_STRICT_PLUGINS"  # set to 1: a plugin that fails to load is an error


@dataclass(frozen=True)
class LoadFailure:
    """A plugin that did not load, and the reason."""

    origin: str
    version: str
    reason: str


class Plugins:
    """The plugins of one session: what they supply (`catalog`) and which did not load (`failures`)."""

    def __init__(self) -> None:
        self.catalog = Catalog()
        self.failures: list[LoadFailure] = []
        self._manager = pluggy.PluginManager(hookspecs.PROJECT)
        self._manager.add_hookspecs(hookspecs)

    @classmethod
    def load(cls, extra: Sequence[object] = (), strict: bool | None = None) -> Plugins:
        """Return a session's plugins: every installed entry point, then `extra` objects.

        A plugin that fails is left out, remembered and warned of; strict (default: from the environment) makes it an
        error, and a name taken twice too. Extra plugins always raise.
        """
        plugins = cls()
        points = _chosen(entry_points(group=GROUP))
        # A version is parsed from all that a distribution says of itself: once, however many plugins it has.
        versions = {dist: dist.version for dist in {point.dist for point in points if point.dist}}
        for point in points:
            plugins._load_entry_point(point, versions[point.dist] if point.dist else "unknown")
        for plugin in extra:
            plugins.add(plugin)
        plugins.complain(strict_by_default() if strict is None else strict)
        return plugins

    def complain(self, strict: bool) -> None:
        """Warn of plugins that did not load and of names that are taken twice; strict: raise PluginError instead."""
        problems = [f"plugin '{failure.origin}' did not load: {failure.reason}" for failure in self.failures]
        problems += [conflict(entries) for entries in self.catalog.conflicts()]
        if strict and problems:
            raise PluginError("\n".join(problems))
        for problem in problems:
            warnings.warn(problem, stacklevel=3)

    def add(self, plugin: object, name: str | None = None, version: str = "unknown") -> None:
        """Add a plugin object at any time, with the same checks as one that was there from the start.

        Raises PluginError and leaves nothing of it behind if it misspells a hook, gives a hook argument a default,
        fails while registering, or takes a name that is taken.
        """
        origin = name or str(getattr(plugin, "__name__", type(plugin).__name__))
        try:
            self._add(plugin, origin, version)
        except PluginError as error:
            raise PluginError(f"plugin '{origin}' did not load: {error}") from error.__cause__
        clashes = [entries for entries in self.catalog.conflicts() if any(entry.origin == origin for entry in entries)]
        if clashes:
            self._drop(plugin, origin)
            raise PluginError("\n".join(conflict(entries) for entries in clashes))

    def get(self, kind: str, name: str) -> Entry:
        """Return an entry of the catalog; an unknown name's error tells of plugins that did not load."""
        try:
            return self.catalog.get(kind, name)
        except PluginError as error:
            raise PluginError(f"{error}{self._failed_hint()}") from None

    def _failed_hint(self) -> str:
        return "".join(f"; plugin '{failure.origin}' did not load: {failure.reason}" for failure in self.failures)

    def _load_entry_point(self, point: EntryPoint, version: str) -> None:
        try:
            self._add(point.load(), point.name, version)
        except (Exception, SystemExit) as error:  # whatever a plugin does must not stop the others; it is shown
            why = error if isinstance(error, PluginError) else reason(error)
            self.failures.append(LoadFailure(point.name, version, str(why)))

    def _add(self, plugin: object, origin: str, version: str) -> None:
        if self._manager.has_plugin(origin) or self._manager.is_registered(plugin):
            raise PluginError(f"it is loaded already, as '{self._manager.get_name(plugin) or origin}'")
        try:
            self._manager.register(plugin, name=origin)
            check_hooks(self._manager, plugin, (*KINDS.values(), *WATCH_HOOKS))
            self._collect(plugin, origin, version)
        except (Exception, SystemExit) as error:
            self._drop(plugin, origin)
            if isinstance(error, PluginError):
                raise
            raise PluginError(reason(error)) from error

    def _drop(self, plugin: object, origin: str) -> None:
        # pluggy leaves the hooks found before an error registered; unregistering takes them out.
        if self._manager.get_plugin(origin) is plugin:
            self._manager.unregister(name=origin)
        self.catalog.remove(origin)

    def _collect(self, plugin: object, origin: str, version: str) -> None:
        others = [registered for registered in self._manager.get_plugins() if registered is not plugin]
        for kind, hook in KINDS.items():
            caller = self._manager.subset_hook_caller(hook, remove_plugins=others)
            caller(register=self._registrar(kind, origin, version))

    @property
    def listeners(self) -> list[object]:
        """The plugins that are told of the steps or ended requests of every decoder."""
        impls = [impl for hook in WATCH_HOOKS for impl in getattr(self._manager.hook, hook).get_hookimpls()]
        return list({id(impl.plugin): impl.plugin for impl in impls}.values())  # some have no hash

    def _registrar(self, kind: str, origin: str, version: str) -> hookspecs.Register:
        def register(name: str, factory: object, options: object = None) -> None:
            _check_registration(kind, name, factory, options)
            self._check_key(kind, name)
            self.catalog.add(Entry(kind, name, factory, options, origin, version))

        return register

    def _check_key(self, kind: str, name: str) -> None:
        """Raise PluginError if a watcher has the name of a section, or the other way round: both are keys."""
        other = {"section": "watcher", "watcher": "section"}.get(kind)
        if other is not None and name in self.catalog.names(other):
            raise PluginError(f"a {kind} must not be called '{name}': there is a {other} of this name")


def strict_by_default() -> bool:
    """Tell whether the environment asks that a plugin which fails to load is an error."""
    return os.environ.get(STRICT, "") not in ("", "0")


def _check_registration(kind: str, name: Any, factory: Any, options: Any) -> None:
    if not isinstance(name, str) or not name:
        raise PluginError(f"a {kind} must be registered under a name, not {name!r}")
    if kind in ("section", "watcher") and name in RESERVED:
        raise PluginError(f"a {kind} must not be called '{name}': every config has one of this name")
    if not callable(factory) and not _is_place(factory):
        raise PluginError(f"the factory of {kind} '{name}' must be callable or 'module:Name', not {factory!r}")
    if options is not None and not _is_dataclass(options) and not _is_place(options):
        raise PluginError(f"the options of {kind} '{name}' must be a dataclass or 'module:Name', not {options!r}")


def _is_dataclass(value: Any) -> bool:
    return inspect.isclass(value) and dataclasses.is_dataclass(value)


def _is_place(value: Any) -> bool:
    return isinstance(value, str) and value.count(":") == 1 and not value.startswith(":") and not value.endswith(":")


def _chosen(points: Iterable[EntryPoint]) -> list[EntryPoint]:
    """Return the entry points to load, by name; raise PluginError if the environment names one that is missing."""
    ordered = sorted(points, key=lambda point: point.name)
    if ONLY not in os.environ:
        return ordered
    names = [name.strip() for name in os.environ[ONLY].split(",") if name.strip()]
    for name in names:
        if name not in {point.name for point in ordered}:
            raise PluginError(f"{ONLY}: {unknown('plugin', name, [point.name for point in ordered])}")
    return [point for point in ordered if point.name in names]
