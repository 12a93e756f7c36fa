"""What is asked of devices: their names, what runs on them, and to have done all that they were given."""

from __future__ import annotations

import platform
import warnings
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import torch


def device_name(device: torch.device) -> str:
    """Return what the maker calls a device."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return _processor() if device.type == "cpu" else device.type


def synchronize(device: torch.device) -> None:
    """Wait until a device has done all that it was given."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


@cache
def row_kernels(device: torch.device) -> ModuleType | None:
    """Return the kernels that do in one launch what a cycle does to its rows; None where torch does it in many.

    A GPU for which Triton compiles nothing (it is too old, or there is no C compiler) is said once.
    """
    if device.type != "cuda" or find_spec("triton") is None:
        return None
    from orthrus.kernels import triton_rows as kernels

    one, two = torch.zeros(1, dtype=torch.int64, device=device), torch.zeros(1, 2, dtype=torch.int64, device=device)
    try:
        kernels.bound(two, one, one, 1)
        kernels.accept(two, two[:, :1], one)
        kernels.commit(two, one, one, one, two[:, :1], one, one, one, one)
    except Exception as error:  # whatever a compiler says
        reason = str(error).split("\n")[0]
        warnings.warn(f"Triton runs no kernels on '{device}' ({reason}); drafts are accepted by torch", stacklevel=2)
        return None
    return kernels


def _processor() -> str:
    cpus = Path("/proc/cpuinfo")  # of Linux; elsewhere platform knows more
    lines = cpus.read_text(encoding="utf-8").splitlines() if cpus.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
