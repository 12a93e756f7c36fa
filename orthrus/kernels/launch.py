"""Programmatic dependent launch: a Triton kernel starts while the one before it still runs."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch


def early_launch() -> dict[str, Any]:
    """Return the launch arguments of a kernel that calls `gdc_wait` if EARLY: on GPUs that can, from Hopper on."""
    early = _launches_early(torch.cuda.current_device())
    return {"EARLY": True, "launch_pdl": True} if early else {"EARLY": False}


@lru_cache
def _launches_early(device: int) -> bool:
    return torch.version.hip is None and torch.cuda.get_device_capability(device) >= (9, 0)
