"""Patched `forward` methods, and detection of hooks and patches of other libraries."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from orthrus_transformers.model.pass_state import PassState

Forward = Callable[..., Any]
When = Callable[[PassState], bool]


class PatchedForward:
    """A patched forward; a deep copy of the module has its own again, since the weights of the two may part."""

    def __init__(self, module: Any, replacement: Forward, when: When) -> None:
        self.own = own_forward(module)
        self._module = module
        self.replacement = replacement
        self._when = when

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the replacement in passes that ask for it, and the module's own forward in all others."""
        # The state is asked of the module, as a model may be loaded into a second target.
        forward = self.replacement if self._when(self._module.orthrus_attention) else self.own
        return forward(*args, **kwargs)

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return copy.deepcopy(self.own, memo)  # a method becomes that of the copied module


class Forms(dict[Any, Any]):
    """Other forms of a module by view; a deep copy of the module has none."""

    def __deepcopy__(self, memo: dict[int, Any]) -> Forms:
        return Forms()


def patch(module: Any, replacement: Forward, when: When) -> None:
    """Let a module call the replacement in passes of whose state `when` is true; all that is put into a model is this.

    The replacement takes what the module's own forward takes. A module that is patched again has the new one only. The
    module must be one of a model that `attach` gave a state.
    """
    vars(module)["forward"] = PatchedForward(module, replacement, when)


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
