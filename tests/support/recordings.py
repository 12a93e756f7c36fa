"""The engine `graphed` where there is no GPU: a recording is a pass over the tensors that were kept, run again.

What a CUDA graph does is only that, so what is chosen to be recorded and replayed shows here too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from orthrus_attention.eager import EagerAttention
from orthrus_attention.sdpa import SdpaAttention
from orthrus_caches.static import StaticCache
from orthrus_transformers.engines.cuda_graphs import GraphedEngine, Recording, packed, unpacked
from orthrus_transformers.engines.eager import EagerEngine
from orthrus_transformers.engines.forward_pass import ForwardPass
from orthrus_transformers.engines.graph_limits import GraphLimits
from orthrus_transformers.target import TransformersTarget
from support.families import CONTEXT, attention_for, tiny_model


@dataclass(eq=False)
class Again:
    """Stand in for a CUDA graph."""

    eager: EagerEngine
    like: ForwardPass
    inputs: torch.Tensor
    output: torch.Tensor
    recorder: Recorder

    def replay(self) -> None:
        self.recorder.around(self._run)

    def _run(self) -> None:
        self.output.copy_(self.eager.run(unpacked(self.like, self.inputs)))


class Recorder(GraphedEngine):
    """Record without a GPU; around: what a replay is done in; size: of a recording, in bytes."""

    around: Callable[[Callable[[], None]], None] = staticmethod(lambda action: action())
    size = 0

    def _record(self, forward_pass: ForwardPass) -> Recording:
        inputs = packed(forward_pass)
        output = self._eager.run(unpacked(forward_pass, inputs)).clone()
        graph: Any = Again(self._eager, forward_pass, inputs, output, self)
        return Recording(graph, inputs, output, self.size)


def recording_target(
    chunk: int = 512, slots: int = 16, family: str = "llama", positions: int = CONTEXT
) -> TransformersTarget:
    """Return a tiny target whose passes are recorded and replayed."""
    attention = EagerAttention() if attention_for(family) == "eager" else SdpaAttention()
    model, cache = tiny_model(family, max_position_embeddings=positions), StaticCache(slots=slots)
    return recording(TransformersTarget(model, None, cache, attention, engine="eager", prefill_chunk=chunk))


def recording(target: TransformersTarget) -> TransformersTarget:
    """Return the target, whose passes are recorded and replayed from now on."""
    assert isinstance(target._engine, EagerEngine)
    target._engine = Recorder(target._engine, target._cache, GraphLimits())
    return target
