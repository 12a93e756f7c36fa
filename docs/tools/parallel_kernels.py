"""Where the time of a pass goes that GPUs share, kernel by kernel, beside one that a GPU has alone.

A part of docs/tools/parallel_costs.py, which runs it: `--parts kernels-joined`.
"""

from __future__ import annotations

import statistics
import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parent))
from pass_breakdown import Kernel, added, events_of, profiled, timed
from torch.autograd import DeviceType  # type: ignore[attr-defined]  # torch does not say that it is public
from torch.profiler import ProfilerActivity

PASSES = 3  # that are profiled
NAME = 90  # letters of a kernel's


def begin(device: torch.device) -> None:
    """Let the profiler look for the first time: graphs that are made before hide their kernels from it."""
    profiled(lambda: torch.ones(1, device=device) + 1, device)


def seen(work: Callable[[], object], device: torch.device) -> dict[str, Any]:
    """Return a pass's milliseconds, what of them kernels run, and of each kernel what it adds, and how long it runs."""
    for _ in range(3):
        work()
    times = [timed(work, device) for _ in range(20)]
    runs = [spans(work, device) for _ in range(PASSES)]
    passes = [added(run) for run in runs]
    return {
        "milliseconds": statistics.median(times),
        "in kernels": statistics.median(sum(kernel.milliseconds for kernel in run) for run in passes),
        "kernels": by_name(passes),
        "one alone": durations(runs[-1]),
    }


def spans(work: Callable[[], object], device: torch.device) -> list[tuple[str, float, float]]:
    """Return the kernels of a pass: names, and their beginnings and ends in microseconds."""
    events = events_of(work, device, [ProfilerActivity.CUDA])
    kernels = [event for event in events if event.device_type == DeviceType.CUDA]
    return [(event.name[:NAME], event.time_range.start, event.time_range.end) for event in kernels]


def by_name(passes: Sequence[Sequence[Kernel]]) -> dict[str, tuple[float, float]]:
    """Return the microseconds that all kernels of a name add to a pass, the median of passes, and how many there are.

    A kernel that runs beside the one before adds what it takes longer.
    """
    spent: dict[str, list[float]] = defaultdict(lambda: [0.0] * len(passes))
    count: dict[str, int] = defaultdict(int)
    for number, run in enumerate(passes):
        for kernel in run:
            spent[kernel.name][number] += 1000 * kernel.milliseconds
            count[kernel.name] += 1
    return {name: (statistics.median(taken), count[name] / len(passes)) for name, taken in spent.items()}


def durations(run: Sequence[tuple[str, float, float]]) -> dict[str, tuple[float, float]]:
    """Return the median microseconds between the beginning and the end of a kernel of each name, and the sum of all."""
    taken: dict[str, list[float]] = defaultdict(list)
    for name, began, ended in run:
        taken[name].append(ended - began)
    return {name: (statistics.median(each), sum(each)) for name, each in taken.items()}


def beside(alone: dict[str, Any], shared: dict[str, Any]) -> list[str]:
    """Return a table: of each kernel its microseconds alone and shared, and by how much that is more than half."""
    names = {**alone["kernels"], **shared["kernels"]}
    rows = [(name, alone["kernels"].get(name, (0.0, 0)), shared["kernels"].get(name, (0.0, 0))) for name in names]
    lines = [f"{'alone us':>9} {'count':>6} {'shared us':>9} {'count':>6} {'- half':>8}  kernel (microseconds of one)"]
    for name, mine, ours in sorted(rows, key=lambda row: row[1][0] / 2 - row[2][0]):
        one = " ".join(f"{told['one alone'].get(name, (0.0, 0.0))[0]:.1f}" for told in (alone, shared))
        lines.append(
            f"{mine[0]:9.1f} {mine[1]:6.0f} {ours[0]:9.1f} {ours[1]:6.0f} {ours[0] - mine[0] / 2:+8.1f}  {name} ({one})"
        )
    for what in ("in kernels", "milliseconds"):
        mine, ours = 1000 * alone[what], 1000 * shared[what]
        lines.append(f"{mine:9.1f} {'':6} {ours:9.1f} {'':6} {ours - mine / 2:+8.1f}  {what}, as microseconds")
    return lines
