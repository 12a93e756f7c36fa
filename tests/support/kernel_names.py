"""What runs on a CUDA device: the kernels of some work, by name, as torch's profiler sees them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.autograd import DeviceType  # type: ignore[attr-defined]  # torch does not say that it is public
from torch.profiler import ProfilerActivity, profile


def kernels_of(work: Callable[[], object]) -> list[str]:
    """Return the kernels, copies among them, that some work launches once it has been done before."""
    work()
    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CUDA], acc_events=True) as seen:
        work()
        torch.cuda.synchronize()
    return [
        event.name
        for event in seen.events() or ()
        if event.device_type == DeviceType.CUDA and event.time_range.elapsed_us() > 0
    ]
