"""The cache `paged` on a CUDA device: texts are those of other caches, prefixes are restored, captures are refused."""

from __future__ import annotations

import pytest
import torch
from support.building import decode_with
from support.families import tiny_model

from orthrus import BuildError, KVCache, Stop
from orthrus_attention.sdpa import SdpaAttention
from orthrus_attention.split_kv import SplitAttention
from orthrus_caches.dynamic import DynamicCache
from orthrus_caches.paged import PagedCache
from orthrus_drafters.prompt_lookup import PromptLookup
from orthrus_transformers.target import TransformersTarget

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
PROMPTS = [[*range(1, 20), last] for last in range(5)]


def target_of(cache: KVCache, attention: type, engine: str) -> TransformersTarget:
    model = tiny_model("llama", dtype=torch.float32).cuda()
    return TransformersTarget(model, None, cache, attention(), engine=engine)


@pytest.mark.parametrize("engine", ["eager", "fused"])
@pytest.mark.parametrize("attention", [SdpaAttention, SplitAttention])
def test_texts_are_those_of_other_caches(attention: type, engine: str) -> None:
    paged = PagedCache(4, prefixes=16)
    texts = []
    for cache in (DynamicCache(), paged, paged):
        results = decode_with(target_of(cache, attention, engine), PromptLookup(3, 1, 4), PROMPTS, Stop(20), batch=2)
        texts.append([result.token_ids for result in results])
    assert texts[0] == texts[1] == texts[2] and results[-1].restored_tokens == 16
    assert paged.blocks_in_use <= 16


def test_an_engine_that_captures_addresses_is_refused() -> None:
    with pytest.raises(BuildError, match=r"'graphed' needs another cache than PagedCache, .*; set cache.name=static"):
        target_of(PagedCache(), SdpaAttention, "graphed")
