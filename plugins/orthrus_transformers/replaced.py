"""Forwards that stand in the place of modules' own, and what other programs have put into modules."""

from __future__ import annotations

from collections.abc import Callable
from types import MethodType
from typing import Any


class Replaced:
    """Be a module's forward; a deep copy of the module has the one of its class again, since weights may part."""

    def __init__(self, module: Any, forward: Callable[..., Any]) -> None:
        self._module = module
        self._forward = forward

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call what stands in the place of the module's own forward."""
        return self._forward(*args, **kwargs)

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        copied = memo.get(id(self._module))
        return self if copied is None else MethodType(type(copied).forward, copied)


class Forms(dict[Any, Any]):
    """Hold other forms of a module by view; a deep copy of the module has none."""

    def __deepcopy__(self, memo: dict[int, Any]) -> Forms:
        return Forms()


def own_forward(module: Any) -> Callable[..., Any]:
    """Return the forward of before this plugin: a model may be loaded into a second target."""
    forward: Callable[..., Any] = module.forward
    return MethodType(type(module).forward, module) if isinstance(forward, Replaced) else forward


def is_watched(module: Any) -> bool:
    """Tell whether something else has put hooks, or a forward of its own, into a module."""
    if module._forward_hooks or module._forward_pre_hooks:
        return True
    held = vars(module).get("forward")
    own = held is None or isinstance(held, Replaced) or getattr(held, "__func__", None) is type(module).forward
    return not own
