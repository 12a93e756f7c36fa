"""Programmatic dependent launch: a Triton kernel starts while the one before it still runs."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from typing import Any

import torch

_ALREADY = nullcontext()
UNFUSED = {"enable_fp_fusion": False}  # a product and a sum rounded at once by some tiles would give other bits


def early_launch(how: int = 1) -> dict[str, Any]:
    """Return the launch arguments of a kernel that calls `triton_wait.wait`: on GPUs that can, from Hopper on.

    how: as `triton_wait` says; 0: not at all.
    """
    early = how and _launches_early(torch.cuda.current_device())
    return {"EARLY": how, "launch_pdl": True} if early else {"EARLY": 0}


def current(device: torch.device) -> AbstractContextManager[Any]:
    """Return a context in which a device is the current one, on which Triton launches; nothing is done if it is that.

    device: of a tensor or a model, so that it has a number if it is a GPU.
    """
    if device.type != "cuda" or torch.cuda.current_device() == device.index:
        return _ALREADY
    return torch.cuda.device(device)


@lru_cache
def multiprocessors(device: int) -> tuple[int, int]:
    """Return how many multiprocessors a device has, and the bytes of shared memory of each."""
    properties = torch.cuda.get_device_properties(device)
    return properties.multi_processor_count, properties.shared_memory_per_multiprocessor


@lru_cache
def _launches_early(device: int) -> bool:
    return torch.version.hip is None and torch.cuda.get_device_capability(device) >= (9, 0)
