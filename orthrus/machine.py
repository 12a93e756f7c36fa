"""The machine: names of devices, synchronizing, versions."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

DISTRIBUTIONS = ("orthrus-decoding", "torch", "transformers")


def device_name(device: torch.device) -> str:
    """Return what the maker calls a device."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return _processor() if device.type == "cpu" else device.type


def synchronize(device: torch.device) -> None:
    """Wait until a device has done all that it was given."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def _processor() -> str:
    cpus = Path("/proc/cpuinfo")  # of Linux; elsewhere platform knows more
    lines = cpus.read_text(encoding="utf-8").splitlines() if cpus.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def precise(device: torch.device) -> torch.dtype:
    """Return float64, or what comes nearest on the device."""
    return torch.float32 if device.type == "mps" else torch.float64


def environment(copy_bandwidths: Mapping[torch.device, float | None]) -> dict[str, Any]:
    """Return the first device's name and copy bandwidth (bytes/s, read plus written), versions, and threads."""
    device = next(iter(copy_bandwidths))
    return {**versions(device), "copy_bandwidth": copy_bandwidths[device]}


def versions(device: torch.device) -> dict[str, Any]:
    """Return a device's name, versions, and threads."""
    return {
        "device": device_name(device),
        "python": platform.python_version(),
        **dict(_versions()),
        **({"cuda": torch.version.cuda} if device.type == "cuda" else {}),
        "threads": torch.get_num_threads(),
    }


def _versions() -> Iterator[tuple[str, str]]:
    for name in DISTRIBUTIONS:
        try:
            yield name, importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue


def pass_conditions(device: torch.device) -> dict[str, Any]:
    """Return what else the time of a pass depends on: device, threads, and versions of what runs it."""
    known = versions(device)
    return {name: known[name] for name in ("device", "threads", *DISTRIBUTIONS[:2]) if name in known}
