"""Checks of the hooks that a plugin or a watcher implements: that each one would be called, with what it asks for."""

from __future__ import annotations

import inspect
from collections.abc import Collection

import pluggy

from orthrus.errors import PluginError, unknown


def check_hooks(manager: pluggy.PluginManager, plugin: object, hooks: Collection[str]) -> None:
    """Raise PluginError if a registered plugin misspells a hook, leaves one unmarked, or gives an argument a default.

    hooks: the names of those that there are.
    """
    callers = manager.get_hookcallers(plugin) or []
    for caller in callers:  # as pluggy's check_pending, which does not say what was probably meant
        if not caller.has_spec():
            raise PluginError(unknown("hook", caller.name, hooks))
    used = {caller.name for caller in callers}
    for hook in hooks:
        if hook not in used and inspect.isroutine(inspect.getattr_static(plugin, hook, None)):
            raise PluginError(f"'{hook}' is not marked with @orthrus.hookimpl, and would never be called")
    for caller in callers:
        for implementation in caller.get_hookimpls():
            if implementation.plugin is plugin and implementation.kwargnames:
                raise PluginError(
                    f"hook '{caller.name}' gives {', '.join(implementation.kwargnames)} a default, and would never"
                    " receive the caller's value; remove the default"
                )
