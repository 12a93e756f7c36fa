"""What a benchmark ran on."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Iterator, Mapping
from typing import Any

import torch

from orthrus.machine import device_name

DISTRIBUTIONS = ("orthrus-decoding", "torch", "transformers")


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
