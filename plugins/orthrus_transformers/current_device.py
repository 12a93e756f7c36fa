"""Passes with the target's own CUDA device as the current one."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from functools import wraps
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

import torch

P = ParamSpec("P")
R = TypeVar("R")


class Placed(Protocol):
    """Be on a device."""

    device: torch.device


S = TypeVar("S", bound=Placed)


def on_its_device(work: Callable[Concatenate[S, P], R]) -> Callable[Concatenate[S, P], R]:
    """Return a method during which the object's CUDA device is the current one.

    Triton launches kernels there, and CUDA graphs are captured there, wherever their tensors are.
    """

    @wraps(work)
    def there(self: S, /, *args: P.args, **kwargs: P.kwargs) -> R:
        with torch.cuda.device(self.device) if self.device.type == "cuda" else nullcontext[Any]():
            return work(self, *args, **kwargs)

    return there
