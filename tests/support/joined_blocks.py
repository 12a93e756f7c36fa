"""Passes in which blocks share the draft's walk through the layers, without a GPU."""

from __future__ import annotations

import functools

from orthrus_attention.sdpa import SdpaAttention
from orthrus_caches.static import StaticCache
from orthrus_transformers.engines.engine import EngineType
from orthrus_transformers.engines.forward_pass import BlocksBeside
from orthrus_transformers.engines.fused import FusedEngine
from orthrus_transformers.target import TransformersTarget
from support.families import tiny_model
from support.recordings import Recorded
from support.views import random_view


class JoinedEngine(FusedEngine):
    """Join wherever that is possible, as a GPU does in 16 bits: in float64 rounding is no matter."""

    def joins(self, rows: int, beside: BlocksBeside) -> bool:
        return self.can_join(rows, beside)


@functools.cache
def joining_target(recorded: bool = False, max_slots: int | None = None) -> TransformersTarget:
    """Return a tiny target that joins blocks with the draft, and has the view `noisy`."""
    engine: EngineType = Recorded(JoinedEngine) if recorded else JoinedEngine
    cache = StaticCache(slots=16, max_slots=max_slots)
    target = TransformersTarget(tiny_model("llama"), None, cache, SdpaAttention(), engine=engine, prefill_chunk=5)
    random_view(target, "noisy", noise=0.02)
    return target
