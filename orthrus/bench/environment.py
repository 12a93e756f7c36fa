"""What a benchmark ran on."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

DISTRIBUTIONS = ("orthrus-decoding", "torch", "transformers")


def environment(copy_bandwidths: Mapping[torch.device, float | None]) -> dict[str, Any]:
    """Return the first device's name and copy bandwidth (bytes/s, read plus written), versions, and threads."""
    device = next(iter(copy_bandwidths))
    return {
        "device": device_name(device),
        "python": platform.python_version(),
        **dict(_versions()),
        **({"cuda": torch.version.cuda} if device.type == "cuda" else {}),
        "threads": torch.get_num_threads(),
        "copy_bandwidth": copy_bandwidths[device],
    }


def device_name(device: torch.device) -> str:
    """Return what the maker calls a device."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return _processor() if device.type == "cpu" else device.type


def _versions() -> Iterator[tuple[str, str]]:
    for name in DISTRIBUTIONS:
        try:
            yield name, importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue


def _processor() -> str:
    cpus = Path("/proc/cpuinfo")  # of Linux; elsewhere platform knows more
    lines = cpus.read_text(encoding="utf-8").splitlines() if cpus.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
