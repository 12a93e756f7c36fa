"""The watchers of a decoder: plugins and parts that are told of steps and of requests that have ended."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import count
from typing import TYPE_CHECKING

import pluggy

from orthrus import hookspecs
from orthrus.errors import BuildError, PluginError, reason
from orthrus.registry.catalog import WATCH_HOOKS
from orthrus.registry.hook_checks import check_hooks

if TYPE_CHECKING:
    from orthrus.watched import WatchedGeneration, WatchedStep


class Watchers:
    """Tell each hook's listeners what happened; a hook that nobody implements is None, and is never asked.

    Listeners are called one after the other, the last one first. What one raises reaches whoever asked for the step,
    which is committed all the same.
    """

    def __init__(self, listeners: Sequence[object]) -> None:
        manager = pluggy.PluginManager(hookspecs.PROJECT)
        manager.add_hookspecs(hookspecs)
        for listener in listeners:
            manager.register(listener)
        self._numbers = count()
        hooks = {name: getattr(manager.hook, name) for name in WATCH_HOOKS}
        heard = {name: hook if hook.get_hookimpls() else None for name, hook in hooks.items()}
        self.after_step: Callable[..., object] | None = heard["after_step"]
        self.after_generation: Callable[..., object] | None = heard["after_generation"]

    def number(self) -> int:
        """Return a number for a request, which no other one has."""
        return next(self._numbers)

    def tell_step(self, step: WatchedStep) -> None:
        """Tell of a step."""
        if self.after_step is not None:
            self.after_step(step=step)

    def tell_generation(self, generation: WatchedGeneration) -> None:
        """Tell of a request that has ended."""
        if self.after_generation is not None:
            self.after_generation(generation=generation)


def check_watcher(watcher: object, what: str) -> None:
    """Raise BuildError if an object implements no watch hook, or one wrongly; what: what the sentence calls it."""
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    try:
        manager.register(watcher)
        check_hooks(manager, watcher, WATCH_HOOKS)
    except (PluginError, pluggy.PluginValidationError) as error:
        why = error if isinstance(error, PluginError) else reason(error)
        raise BuildError(f"{what} is no watcher: {why}") from error
    if not manager.get_hookcallers(watcher):
        raise BuildError(f"{what} is no watcher: it has neither of {' and '.join(WATCH_HOOKS)}")
