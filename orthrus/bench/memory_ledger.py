"""Attributes CUDA memory to the subjects of a benchmark. On a CPU all figures are 0."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch


class Ledger:
    """Keep account of the bytes that each owner holds: by how much memory grew while something was done for it."""

    def __init__(self) -> None:
        self._sizes: Counter[str] = Counter()

    @contextmanager
    def charge(self, owner: str) -> Iterator[None]:
        """Charge an owner with what is allocated meanwhile and stays, and credit it with what is freed."""
        before = allocated()
        try:
            yield
        finally:
            if _devices():
                gc.collect()  # what is garbage is nobody's
            self._sizes[owner] += allocated() - before

    def forget(self, owners: Iterable[str]) -> None:
        """Drop the accounts of owners that hold nothing any more."""
        for owner in owners:
            self._sizes.pop(owner, None)

    def others(self, *owners: str) -> int:
        """Return the bytes that all but these owners hold."""
        return sum(size for owner, size in self._sizes.items() if owner not in owners)


@contextmanager
def frozen() -> Iterator[None]:
    """Set aside all objects there are, so that collecting garbage meanwhile is quick and looks at newer ones only."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def allocated() -> int:
    """Return the bytes that tensors occupy on all CUDA devices."""
    return sum(torch.cuda.memory_allocated(index) for index in _devices())


def peak() -> int:
    """Return the most bytes that tensors occupied on all CUDA devices since `reset_peak`."""
    return sum(torch.cuda.max_memory_allocated(index) for index in _devices())


def reset_peak() -> None:
    """Forget the most that was occupied so far."""
    for index in _devices():
        torch.cuda.reset_peak_memory_stats(index)


def release() -> None:
    """Give what nobody uses back to the devices, after something ran out of memory."""
    gc.collect()
    if _devices():
        torch.cuda.empty_cache()


def _devices() -> range:
    return range(torch.cuda.device_count() if torch.cuda.is_available() else 0)
