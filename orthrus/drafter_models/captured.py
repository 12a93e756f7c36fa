"""Functions of tensors that are replayed as CUDA graphs on a GPU, and called as they are elsewhere."""

from __future__ import annotations

import gc
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

MOST = 64  # graphs that are held; the one that was not replayed for longest goes first
Function = Callable[..., tuple[Tensor, ...]]


@dataclass(frozen=True, eq=False)
class _Captured:
    graph: Any
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]


class CapturedCalls:
    """Calls that are captured when they first come and replayed from then on, one graph for each key.

    A key says all that shapes and branches of a function depend on. The function waits for no host, has no random
    numbers, and may be run several times over for one call: what it writes elsewhere is the same each time. What is
    returned is written over by the next call with the same key.
    """

    def __init__(self, device: torch.device) -> None:
        self._captures = device.type == "cuda"
        self._held: OrderedDict[Hashable, _Captured] = OrderedDict()
        self._pool: Any = None

    def __call__(self, key: Hashable, function: Function, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Return the function's results for these inputs."""
        if not self._captures:
            return function(*inputs)
        captured = self._held.pop(key, None) or self._capture(function, inputs)
        self._held[key] = captured
        while len(self._held) > MOST:
            self._held.popitem(last=False)
        for own, given in zip(captured.inputs, inputs, strict=True):
            own.copy_(given)
        captured.graph.replay()
        return captured.outputs

    def forget(self) -> None:
        """Drop all graphs, as buffers that they read or write have moved."""
        self._held.clear()

    def _capture(self, function: Function, inputs: tuple[Tensor, ...]) -> _Captured:
        own = tuple(given.clone() for given in inputs)
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]  # torch has no type for it
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):  # libraries allocate and choose kernels in their first calls
            function(*own)
            function(*own)
        torch.cuda.current_stream().wait_stream(stream)
        graph, collects = torch.cuda.CUDAGraph(), gc.isenabled()
        gc.disable()  # it may free a graph that nobody holds, which breaks a capture
        try:
            with torch.cuda.graph(graph, pool=self._pool, stream=stream):
                outputs = tuple(output.clone() for output in function(*own))
        finally:
            if collects:
                gc.enable()
        self._pool = self._pool or graph.pool()
        return _Captured(graph, own, outputs)
