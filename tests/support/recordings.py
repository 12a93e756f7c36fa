"""The engine `graphed` where there is no GPU: a recording is a pass over the tensors that were kept, run again.

What a CUDA graph does is only that, so what is chosen to be recorded and replayed shows here too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch

from orthrus_attention.eager import EagerAttention
from orthrus_attention.sdpa import SdpaAttention
from orthrus_caches.static import StaticCache
from orthrus_transformers.engines.choice import make_engine
from orthrus_transformers.engines.cuda_graphs import GraphedEngine
from orthrus_transformers.engines.eager import EagerEngine
from orthrus_transformers.engines.engine import Engine, EngineSetup, EngineType, Obstacle
from orthrus_transformers.engines.forward_pass import ForwardPass
from orthrus_transformers.engines.graph_limits import GraphLimits
from orthrus_transformers.engines.graph_recorder import Recorder, Recording, Run, packed, unpacked
from orthrus_transformers.target import TransformersTarget
from support.families import CONTEXT, attention_for, tiny_model


@dataclass(eq=False)
class Again:
    """Stand in for a CUDA graph."""

    run: Run
    like: ForwardPass
    inputs: torch.Tensor
    output: torch.Tensor
    recorder: PlainRecorder

    def replay(self) -> None:
        self.recorder.around(self._write)

    def _write(self) -> None:
        self.output.copy_(self.run(unpacked(self.like, self.inputs)))


@dataclass(frozen=True)
class Action:
    """Stand in for a CUDA graph of an action."""

    action: Callable[[], None]
    size: int = 0

    def replay(self) -> None:
        self.action()


class PlainRecorder:
    """Record without a GPU; around: what a replay is done in; size: of a recording, in bytes."""

    around: Callable[[Callable[[], None]], None] = staticmethod(lambda action: action())
    size = 0

    def record(self, run: Run, forward_pass: ForwardPass) -> Recording:
        inputs = packed(forward_pass)
        output = run(unpacked(forward_pass, inputs)).clone()
        return Recording(Again(run, forward_pass, inputs, output, self), inputs, output, self.size)

    def record_action(self, action: Callable[[], None], written: Sequence[torch.Tensor]) -> Action:
        return Action(action)

    def forget(self) -> None: ...


@dataclass(frozen=True)
class Recorded:
    """The engine whose passes are recorded and replayed, around the one of a name."""

    name: str | EngineType = "eager"
    recorder: Recorder = field(default_factory=PlainRecorder)
    limits: GraphLimits = field(default_factory=GraphLimits)

    def obstacle(self, setup: EngineSetup) -> Obstacle | None:
        return None

    def make(self, setup: EngineSetup) -> Engine:
        inner = make_engine(self.name, setup)
        assert isinstance(inner, EagerEngine)
        return GraphedEngine(inner, setup.cache, self.limits, self.recorder)


def recording_target(
    chunk: int = 512,
    slots: int = 16,
    family: str = "llama",
    positions: int = CONTEXT,
    recorder: Recorder | None = None,
    limits: GraphLimits | None = None,
) -> TransformersTarget:
    """Return a tiny target whose passes are recorded and replayed."""
    attention = EagerAttention() if attention_for(family) == "eager" else SdpaAttention()
    model, cache = tiny_model(family, max_position_embeddings=positions), StaticCache(slots=slots)
    engine = Recorded(recorder=recorder or PlainRecorder(), limits=limits or GraphLimits())
    return TransformersTarget(model, None, cache, attention, engine=engine, prefill_chunk=chunk)
