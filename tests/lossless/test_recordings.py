"""The engine `graphed` where there is no GPU: a recording is a pass over the tensors that were kept, run again.

What a CUDA graph does is only that, so what is chosen to be recorded and replayed shows here too.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from support.building import assert_lossless, decode_with, target_oracle
from support.drafters import ScriptedDrafter
from support.families import VOCABULARY, tiny_model

from orthrus import Stop
from orthrus_attention.sdpa import SdpaAttention
from orthrus_caches import buffers, static
from orthrus_caches.static import StaticCache
from orthrus_plain.none import NoDrafter
from orthrus_transformers.engine import EagerEngine, Pass
from orthrus_transformers.graphed import GraphedEngine, Recording
from orthrus_transformers.options import GraphLimits
from orthrus_transformers.target import TransformersTarget


@dataclass(eq=False)
class Again:
    """Stand in for a CUDA graph."""

    eager: EagerEngine
    inputs: Pass
    logits: torch.Tensor

    def replay(self) -> None:
        self.logits.copy_(self.eager.run(self.inputs))


class Recorder(GraphedEngine):
    """Record without a GPU."""

    def _record(self, one: Pass) -> Recording:
        inputs = replace(one, token_ids=one.token_ids.clone(), lengths=one.lengths.clone())
        logits = self._eager.run(inputs).clone()
        return Recording(Again(self._eager, inputs, logits), inputs, logits)  # type: ignore[arg-type]


def recording_target(chunk: int) -> TransformersTarget:
    target = TransformersTarget(
        tiny_model("llama"), None, StaticCache(slots=16), SdpaAttention(), engine="eager", prefill_chunk=chunk
    )
    assert isinstance(target._engine, EagerEngine)
    target._engine = Recorder(target._engine, target._cache, GraphLimits())
    return target


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("length", [1, 3, 4, 5, 9])
def test_a_prefill_is_never_taken_for_a_cycle(length: int, batch: int) -> None:
    target = recording_target(chunk=4)
    prompts = [[(7 * i + 3) % VOCABULARY for i in range(length + extra)] for extra in (0, 2)]
    answers = [target_oracle(target)(prompt, Stop(12)) for prompt in prompts]
    for _ in range(2):  # nothing recorded yet, and a cycle's pass recorded
        assert_lossless(decode_with(target, NoDrafter(), prompts, Stop(12), batch=batch), answers)
    assert target._engine.report()["graphs"] > 0
    drafter = ScriptedDrafter([answer.token_ids for answer in answers], VOCABULARY, 0.7, [0, 3])
    assert_lossless(decode_with(target, drafter, prompts, Stop(12), batch=batch), answers)


def test_no_recording_outlives_a_growth_that_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    target = recording_target(chunk=512)
    wanted = target_oracle(target)([1, 2], Stop(10))
    assert_lossless(decode_with(target, NoDrafter(), [[1, 2]], Stop(10)), [wanted])
    calls = 0

    def short_of_memory(buffer: torch.Tensor, capacity: int) -> torch.Tensor:
        nonlocal calls
        calls += 1
        if calls == 6:  # all keys have grown, and some values
            raise MemoryError
        return buffers.grown(buffer, capacity)

    monkeypatch.setattr(static, "grown", short_of_memory)
    before: Any = target._cache
    generation = before.generation
    with pytest.raises(MemoryError):
        decode_with(target, NoDrafter(), [[1] * 20], Stop(10))
    assert before.generation > generation
    assert before.bytes_in_use() == 0
    assert_lossless(decode_with(target, NoDrafter(), [[1, 2]], Stop(10)), [wanted])
