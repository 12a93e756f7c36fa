"""Patched `forward` methods, and detection of hooks and patches of other libraries."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

Forward = Callable[..., Any]


class PatchedForward:
    """A patched forward; a deep copy of the module has its own again, since the weights of the two may part."""

    def __init__(self, own: Forward, forward: Forward) -> None:
        self.own = own
        self._forward = forward

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call what stands in the place of the module's own forward."""
        return self._forward(*args, **kwargs)

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return copy.deepcopy(self.own, memo)  # a method becomes that of the copied module


class Forms(dict[Any, Any]):
    """Other forms of a module by view; a deep copy of the module has none."""

    def __deepcopy__(self, memo: dict[int, Any]) -> Forms:
        return Forms()


def own_forward(module: Any) -> Forward:
    """Return the forward of before this plugin: a model may be loaded into a second target."""
    forward: Forward = module.forward
    return forward.own if isinstance(forward, PatchedForward) else forward


def has_foreign_forward(module: Any) -> bool:
    """Tell whether something else has put a forward of its own into a module."""
    return getattr(own_forward(module), "__func__", None) is not type(module).forward


def is_watched(module: Any) -> bool:
    """Tell whether something else has put hooks, or a forward of its own, into a module."""
    return bool(module._forward_hooks or module._forward_pre_hooks) or has_foreign_forward(module)
