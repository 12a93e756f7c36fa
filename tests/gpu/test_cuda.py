"""On a CUDA device: captured passes give the oracle's tokens, and no recording outlives what it was made over."""

from __future__ import annotations

import gc
import random
from typing import Any

import pytest
import torch
from support.building import assert_lossless, decode_with, target_oracle
from support.drafters import CudaDrafter
from support.families import VOCABULARY, tiny_model
from support.syncs import syncs

from orthrus import BuildError, Decoder, KVCache, Stop
from orthrus_attention.sdpa import SdpaAttention
from orthrus_caches.dynamic import DynamicCache
from orthrus_caches.static import StaticCache
from orthrus_transformers.engines.cuda_graphs import GraphedEngine
from orthrus_transformers.target import TransformersTarget
from orthrus_verifiers.consensus import Consensus

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
COMPILED = pytest.param("compiled", marks=pytest.mark.filterwarnings("ignore::DeprecationWarning"))  # of its imports
FAMILIES = ["llama", "mistral", "qwen2", "qwen3"]


def split_attention() -> Any:
    from orthrus_attention.split_kv import SplitAttention

    return SplitAttention()


def target_of(family: str, engine: str, cache: KVCache, attention: Any, chunk: int = 512) -> TransformersTarget:
    model = tiny_model(family, dtype=torch.float32).cuda()
    return TransformersTarget(model, None, cache, attention, engine=engine, prefill_chunk=chunk)


@pytest.mark.parametrize("attention", [SdpaAttention, split_attention], ids=["sdpa", "split"])
@pytest.mark.parametrize("engine", ["eager", "fused", COMPILED, "graphed"])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_engine_gives_the_oracles_tokens(family: str, engine: str, attention: Any) -> None:
    chooser, stop = random.Random(family), Stop(30)
    prompts = [[chooser.randrange(VOCABULARY) for _ in range(length)] for length in (3, 15, 1, 40, 7)]
    target = target_of(family, engine, StaticCache(slots=16), attention())
    answers = [target_oracle(target)(prompt, stop) for prompt in prompts]
    for batch in (5, 2, 1, 5):  # buckets grow and the batch changes, and changes back
        drafter = CudaDrafter([answer.token_ids for answer in answers], VOCABULARY, 0.7, [0, 3, 6])
        assert_lossless(decode_with(target, drafter, prompts, stop, batch=batch), answers)


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("length", [1, 4, 5, 9])
def test_prompts_of_one_column_and_of_several_chunks(length: int, batch: int) -> None:
    target = target_of("llama", "graphed", StaticCache(slots=16), split_attention(), chunk=4)
    prompts = [[(7 * i + 3) % VOCABULARY for i in range(length + extra)] for extra in (0, 2)]
    answers = [target_oracle(target)(prompt, Stop(12)) for prompt in prompts]
    from orthrus_drafters.none import NoDrafter

    for _ in range(2):  # nothing recorded yet, and a cycle's pass recorded
        assert_lossless(decode_with(target, NoDrafter(), prompts, Stop(12), batch=batch), answers)


def test_one_sync_a_cycle_and_none_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    target = target_of("llama", "graphed", StaticCache(slots=64), split_attention())
    truth = [1] * 30
    drafter = CudaDrafter([truth], VOCABULARY, 1.0, [3])
    decode_with(target, drafter, [[1, 2, 3]], Stop(20))  # everything is captured
    from orthrus_drafters.none import NoDrafter

    decode_with(target, NoDrafter(), [[1, 2, 3]], Stop(20))
    reads = 0
    real = torch.Tensor.tolist

    def counted(tensor: torch.Tensor) -> Any:
        nonlocal reads
        reads += 1
        with syncs("default"):
            return real(tensor)

    monkeypatch.setattr(torch.Tensor, "tolist", counted)
    decoder = Decoder.of(target, NoDrafter(), Consensus(), Stop(20))
    with syncs("error"):  # any but the counted ones raises
        _, iterator = decoder.steps([[1, 2, 3]])
        steps = list(iterator)
    assert reads == len(steps)


def test_recordings_are_dropped_when_the_buffers_move() -> None:
    target = target_of("llama", "graphed", StaticCache(slots=64), SdpaAttention())
    engine = target.engine
    assert isinstance(engine, GraphedEngine)
    from orthrus_drafters.none import NoDrafter

    first = decode_with(target, NoDrafter(), [[1, 2], [3]], Stop(8))
    decode_with(target, NoDrafter(), [[1, 2], [3]], Stop(8))  # a prefill is recorded when it comes again
    recordings = list(engine.recordings.values())
    decode_with(target, NoDrafter(), [[1, 2], [3]], Stop(8))
    assert list(engine.recordings.values()) == recordings  # as many rows: replayed
    decode_with(target, NoDrafter(), [[1, 2]], Stop(8))
    assert set(map(id, recordings)) <= set(map(id, engine.recordings.values()))  # fewer: the buffers are large enough
    decode_with(target, NoDrafter(), [[1, 2], [3], [4]], Stop(8))
    assert not set(map(id, engine.recordings.values())) & set(map(id, recordings))
    again = decode_with(target, NoDrafter(), [[1, 2], [3]], Stop(8))
    assert [result.token_ids for result in again] == [result.token_ids for result in first]


def test_many_requests_leave_memory_where_it_was() -> None:
    target = target_of("llama", "graphed", StaticCache(slots=64), split_attention())
    from orthrus_drafters.none import NoDrafter

    def requests(count: int) -> int:
        for index in range(count):
            decode_with(target, NoDrafter(), [[index % VOCABULARY, 2]], Stop(6))
        gc.collect()
        torch.cuda.synchronize()
        return torch.cuda.memory_allocated()

    before = requests(20)
    assert requests(1000) == before


def test_graphs_need_a_cache_that_stays_in_place() -> None:
    with pytest.raises(BuildError, match=r"set cache\.name=static"):
        target_of("llama", "graphed", DynamicCache(), SdpaAttention())


def test_auto_says_what_keeps_it_from_capturing() -> None:
    heard: list[str] = []
    model = tiny_model("llama", dtype=torch.float32).cuda()
    for cache in (StaticCache(slots=16), DynamicCache()):
        TransformersTarget(model, None, cache, SdpaAttention(), notify=heard.append)
    assert len(heard) == 1 and heard[0].endswith("; set cache.name=static")
