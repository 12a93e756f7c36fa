"""A counter of host syncs: on an accelerator the host waits for the device whenever a tensor's value reaches Python."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

READS = {
    "item",
    "tolist",
    "numpy",
    "nonzero",
    "argwhere",
    "masked_select",
    "equal",
    "allclose",
    "unique",
    "__array__",
    "__contains__",
    "__bool__",
    "__int__",
    "__float__",
    "__index__",
    "__format__",
}


class HostReads(TorchFunctionMode):
    """Count, while it is entered, what Python asks of tensors that has to be known on the host, by its name."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self._paused = False

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leave out what is asked inside."""
        self._paused, before = True, self._paused
        try:
            yield
        finally:
            self._paused = before

    def __torch_function__(self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Count a call, and make it."""
        name = getattr(func, "__name__", "")
        if not self._paused and (name in READS or (name == "__getitem__" and _by_booleans(args[1]))):
            self.found.append(name)
        return func(*args, **(kwargs or {}))


def _by_booleans(index: Any) -> bool:
    """Tell whether an index is one whose result has a shape that the device alone knows."""
    each = index if isinstance(index, tuple) else (index,)
    return any(isinstance(argument, Tensor) and argument.dtype in (torch.bool, torch.uint8) for argument in each)
