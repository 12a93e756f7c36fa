"""Sums over the GPUs that share a model, timed within CUDA graphs: what `parallel_costs.py` measures as collectives."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

from orthrus.kernels.normed import unnormed
from orthrus.machine import synchronize
from orthrus.ranks.direct_sum import Joined
from orthrus.ranks.group import RankGroup
from orthrus_transformers.loading.shared_start import JOINED


def milliseconds(work: Callable[[], object], device: torch.device, repeats: int) -> float:
    """Return the median time of some work that begins when the device has nothing else to do."""
    taken = []
    for _ in range(repeats):
        synchronize(device)
        began = time.perf_counter()
        work()
        synchronize(device)
        taken.append(1000 * (time.perf_counter() - began))
    return statistics.median(taken)


def collectives(group: RankGroup, sums: str) -> dict[str, Any]:
    """Return the microseconds of a sum within a CUDA graph of as many as a pass has, by tokens."""
    device = torch.device("cuda", group.local_rank)
    torch.cuda.set_device(device)
    why = group.sum_directly(device, JOINED.get(sums, Joined.NOTHING)) if sums != "nccl" else None
    if why:
        raise RuntimeError(why)
    found: dict[str, Any] = _joined_sums(group, device) if sums in JOINED else {}
    for tokens in (1, 8, 32):
        states = torch.ones(tokens, 4096, dtype=torch.bfloat16, device=device)
        found[f"{tokens} x 4096"] = _captured_microseconds(group, lambda states=states: group.sum(states), 72, device)
    part = torch.ones(1, 32, 151936 // group.count, device=device)
    found["logits of 32"] = _captured_microseconds(group, lambda: group.joined(part, 151936), 4, device)
    numbers = torch.ones(1, 33, dtype=torch.int64, device=device)
    found["a decision"] = 1000 * milliseconds(lambda: group.from_lead(numbers), device, 50)
    began = time.perf_counter()
    for _ in range(200):
        group.agree_numbers(3)
    found["a width, on the host"] = 1e6 * (time.perf_counter() - began) / 200
    value = torch.full((4, 4096), float(group.rank + 1), dtype=torch.bfloat16, device=device)
    assert bool((group.sum(value.clone()) == sum(range(1, group.count + 1))).all()), "the sum is right"
    return found


def _joined_sums(group: RankGroup, device: torch.device) -> dict[str, Any]:
    """Return the microseconds of a small product, a sum and what follows it, and how far they are from torch's own."""
    from orthrus.kernels import skinny_linear, summed_linear

    found: dict[str, Any] = {}
    generator = torch.Generator(device).manual_seed(group.rank)
    inputs = torch.randn(1, 32, 2048, device=device, generator=generator).bfloat16()
    weight = (torch.randn(4096, 2048, device=device, generator=generator) / 2048**0.5).bfloat16()
    norm = torch.ones(4096, dtype=torch.bfloat16, device=device)
    residual = torch.ones(1, 32, 4096, dtype=torch.bfloat16, device=device)
    shared = group.shared_parts(residual)
    assert shared is not None, "it fits"
    expected = residual.float() + sum(
        part.to(device) for part in group.told(torch.nn.functional.linear(inputs, weight).float().cpu())
    )
    joined = {"one kernel": summed_linear.linear_summed, "two kernels": summed_linear.linear_added_directly}
    for name, work in joined.items():
        for slot in (0, 1, 0, 1):
            hidden = residual.clone()
            work(inputs, weight, hidden, norm, shared, slot)
            found[f"{name} off by, slot {slot}"] = float((hidden.float() - expected).abs().max())
    slots = iter([0, 1] * 10_000)
    for name, work in {
        **{
            f"product, sum and gain, {name}": lambda work=work: work(
                inputs, weight, residual, norm, shared, next(slots)
            )
            for name, work in joined.items()
        },
        "product, sum and gain": lambda: skinny_linear.added_gain(
            residual, group.sum(skinny_linear.linear(unnormed(inputs), weight, None, 0.0)), norm
        ),
        "product and gain of one GPU": lambda: skinny_linear.linear_added(inputs, weight, residual, norm),
    }.items():
        found[name] = _captured_microseconds(group, work, 72, device)
        residual.fill_(1.0)
    return found


def _captured_microseconds(group: RankGroup, work: Callable[[], object], times: int, device: torch.device) -> float:
    stream = torch.cuda.Stream(device)
    with torch.cuda.stream(stream):
        for _ in range(4):
            work()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
        for _ in range(times):
            work()
    graph.replay()
    group.wait()
    return 1000 * milliseconds(graph.replay, device, 20) / times
