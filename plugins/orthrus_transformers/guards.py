"""Guards around a target's methods: a sentence where memory is short, and its own device as the current one."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec, Protocol, TypeVar

import torch

from orthrus import BuildError, Context, InputError, Turn
from orthrus.kernels.launch import current

P = ParamSpec("P")
R = TypeVar("R")


class Placed(Protocol):
    """An object on a device."""

    device: torch.device


S = TypeVar("S", bound=Placed)


class TakingTurns(Protocol):
    """An object that one thread at a time may use."""

    turn: Turn


T = TypeVar("T", bound=TakingTurns)


def says_when_memory_is_short(work: Callable[P, R]) -> Callable[P, R]:
    """Return the work with torch's out-of-memory error turned into one sentence that says what to set."""

    @wraps(work)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return work(*args, **kwargs)
        except torch.OutOfMemoryError as error:
            raise InputError(
                f"the GPU's memory does not hold this decoding ({_asked(error)}); set a smaller batch,"
                " stop.max_new_tokens or target.prefill_chunk, or target.dtype=bfloat16"
            ) from error

    return guarded


def does_not_fit(error: torch.OutOfMemoryError) -> BuildError:
    """Return the error of a model that is larger than the device's memory."""
    return BuildError(
        f"the GPU's memory does not hold the model ({_asked(error)}); set target.dtype=bfloat16, or target.device=cpu"
    )


def check_room(context: Context, most: int | None) -> None:
    """Raise InputError if a row of the context may need more slots than the cache may have."""
    if most is None:
        return
    for row in context.requests:
        need = len(row.prompt) + row.room
        if need > most:
            raise InputError(
                f"prompt {row.request} may need {need} slots ({len(row.prompt)} tokens and {row.room} new ones), more"
                f" than cache.max_slots={most}; set cache.max_slots={need} or a smaller stop.max_new_tokens"
            )


def _asked(error: torch.OutOfMemoryError) -> str:
    return str(error).removeprefix("CUDA out of memory. ").split(". ")[0]


def on_its_device(work: Callable[Concatenate[S, P], R]) -> Callable[Concatenate[S, P], R]:
    """Return a method during which the object's CUDA device is the current one.

    Triton launches kernels there, and CUDA graphs are captured there, wherever their tensors are.
    """

    @wraps(work)
    def there(self: S, /, *args: P.args, **kwargs: P.kwargs) -> R:
        with current(self.device):
            return work(self, *args, **kwargs)

    return there


def in_its_turn(work: Callable[Concatenate[T, P], R]) -> Callable[Concatenate[T, P], R]:
    """Return a method during which other threads wait for the object: a pass writes the cache, and its own state."""

    @wraps(work)
    def alone(self: T, /, *args: P.args, **kwargs: P.kwargs) -> R:
        with self.turn.lock:
            return work(self, *args, **kwargs)

    return alone
