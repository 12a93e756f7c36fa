"""The engine `graphed`: a whole pass recorded once as a CUDA graph and replayed, without Python between its kernels."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from orthrus_transformers.engine import EagerEngine, Pass

Shape = tuple[int, int, int, int, str]  # rows, queries, bucket, projected columns, kind


@dataclass(frozen=True, eq=False)
class Recording:
    """Hold a captured pass: the tensors it reads and the logits it leaves."""

    graph: torch.cuda.CUDAGraph
    inputs: Pass
    logits: Tensor


class GraphedEngine:
    """Replay passes of the same shape; capture a shape when it first comes. Prefills and wide passes run eagerly.

    The logits are the recording's own tensor, which the next replay overwrites: they live for one cycle.
    """

    def __init__(self, eager: EagerEngine, cache: Any, *, max_graphs: int = 32, max_queries: int = 64) -> None:
        self._eager = eager
        self._cache = cache
        self._max_graphs, self._max_queries = max_graphs, max_queries
        self._recordings: OrderedDict[Shape, Recording] = OrderedDict()
        self._pool: Any = None
        self._generation = -1

    def run(self, one: Pass) -> Tensor:
        """Return the logits [R, last, V], replaying a recording where there is one of this shape."""
        rows, queries = one.token_ids.shape
        if one.rows is not None or one.last < queries or queries > self._max_queries:
            return self._eager.run(one)
        bucket = self._cache.place(one.slots, one.extent)  # may move the buffers
        if self._generation != self._cache.generation:  # the buffers moved: no recording may be replayed again
            self._recordings.clear()
            self._pool = None  # it went with the last recording
            self._generation = self._cache.generation
        shape = (rows, queries, bucket, one.last, one.kind)
        recording = self._recordings.pop(shape, None) or self._record(one)
        self._recordings[shape] = recording  # the newest last; the oldest goes first
        while len(self._recordings) > self._max_graphs:
            self._recordings.popitem(last=False)
        for name in ("token_ids", "slots", "lengths"):
            getattr(recording.inputs, name).copy_(getattr(one, name))
        recording.graph.replay()
        return recording.logits

    def _record(self, one: Pass) -> Recording:
        inputs = replace(one, token_ids=one.token_ids.clone(), slots=one.slots.clone(), lengths=one.lengths.clone())
        self._warm_up(lambda: self._eager.run(inputs))
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool):
            logits = self._eager.run(inputs)
        self._pool = self._pool or graph.pool()
        return Recording(graph, inputs, logits)

    def _warm_up(self, action: Callable[[], object]) -> None:
        # Libraries allocate and choose kernels in their first calls, which a capture must not contain.
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]  # torch has no type for it
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            action()
            action()
        torch.cuda.current_stream().wait_stream(stream)
