"""What is said when memory is short: on the device, or in a cache with a limit."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

import torch

from orthrus import BuildError, Context, InputError

P = ParamSpec("P")
R = TypeVar("R")


def says_when_memory_is_short(work: Callable[P, R]) -> Callable[P, R]:
    """Return the work with torch's out-of-memory error turned into one sentence that says what to set."""

    @wraps(work)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return work(*args, **kwargs)
        except torch.OutOfMemoryError as error:
            raise InputError(
                f"the GPU's memory does not hold this decoding ({_wanted(error)}); set a smaller batch,"
                " stop.max_new_tokens or target.prefill_chunk, or target.dtype=bfloat16"
            ) from error

    return guarded


def does_not_fit(error: torch.OutOfMemoryError) -> BuildError:
    """Return the error of a model that is larger than the device's memory."""
    return BuildError(
        f"the GPU's memory does not hold the model ({_wanted(error)}); set target.dtype=bfloat16, or target.device=cpu"
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


def _wanted(error: torch.OutOfMemoryError) -> str:
    return str(error).removeprefix("CUDA out of memory. ").split(". ")[0]
