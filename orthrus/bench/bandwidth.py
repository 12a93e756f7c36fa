"""The copy bandwidth of a device: the speed that no pass over weights and keys can exceed."""

from __future__ import annotations

import statistics
import time

import torch

from orthrus.bench.memory_ledger import release

REPEATS = 7
CUDA_BYTES, CPU_BYTES = 2**30, 2**28  # far more than any cache holds, little enough to fit beside a model


def copy_bandwidth(device: torch.device) -> float | None:
    """Return the median bytes/s, read plus written, of copying a large buffer; None where there is no room for it."""
    try:
        return _measured(device, CUDA_BYTES if device.type == "cuda" else CPU_BYTES)
    except (RuntimeError, MemoryError):
        return None
    finally:
        release()


def _measured(device: torch.device, size: int) -> float:
    source = torch.ones(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    seconds = [copy_seconds(source, target) for _ in range(REPEATS + 1)][1:]  # the first touches the pages
    return 2 * size / statistics.median(seconds)


def copy_seconds(source: torch.Tensor, target: torch.Tensor) -> float:
    """Return the seconds that one copy takes."""
    if source.device.type != "cuda":
        began = time.perf_counter()
        target.copy_(source)
        if source.device.type != "cpu":
            torch.accelerator.synchronize(source.device)
        return time.perf_counter() - began
    with torch.cuda.device(source.device):
        first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        first.record()
        target.copy_(source)
        last.record()
        last.synchronize()
    return float(first.elapsed_time(last)) / 1000
