"""On a CUDA device: trees of drafts are scored by captured passes, kept, and add no sync."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from support.building import assert_lossless, decode_with, target_oracle
from support.families import VOCABULARY, tiny_model
from support.syncs import syncs
from support.views import random_view

from orthrus import Plugins, Sampling, Stop
from orthrus.chance import request_key
from orthrus.testing.doubles.trees import ScriptedTrees
from orthrus_attention.sdpa import SdpaAttention
from orthrus_caches.dynamic import DynamicCache
from orthrus_caches.paged import PagedCache
from orthrus_caches.static import StaticCache
from orthrus_diffusion.drafter import Diffusion
from orthrus_transformers.target import TransformersTarget
from orthrus_verifiers.coupled import Coupled

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # the compiler's own imports, for `flex`
    pytest.mark.filterwarnings("ignore:TensorFloat32"),  # its advice
]
CHOOSER = random.Random(0)
PROMPTS = [[CHOOSER.randrange(VOCABULARY) for _ in range(length)] for length in (3, 15, 1, 40, 7)]
STOP = Stop(30)


def target_of(engine: str, attention: str = "sdpa", family: str = "llama", **sizes: int) -> TransformersTarget:
    backend = Plugins.load().get("attention", attention).load_factory()(None, None)
    model = tiny_model(family, dtype=torch.float32, head_dim=16, **sizes).cuda()
    cache = StaticCache(slots=16) if engine == "graphed" else DynamicCache()
    if engine == "paged":
        cache, engine = PagedCache(block=4, prefixes=16), "eager"
    return TransformersTarget(model, None, cache, backend, engine=engine)


@pytest.mark.parametrize("engine", ["eager", "fused", "graphed", "paged"])
@pytest.mark.parametrize("attention", ["eager", "sdpa", "flex", "split"])
@pytest.mark.parametrize("family", ["llama", "mistral"])  # mistral has a window
def test_texts_in_float32_are_the_oracles(engine: str, attention: str, family: str) -> None:
    target = target_of(engine, attention, family)
    answers = [target_oracle(target)(prompt, STOP) for prompt in PROMPTS]
    texts = {request_key(str(index)): answer.token_ids for index, answer in enumerate(answers)}
    for batch in (5, 2, 1):
        drafter = ScriptedTrees(texts, VOCABULARY, batch, sizes=(0, 4, 12, 30))
        assert_lossless(decode_with(target, drafter, PROMPTS, STOP, batch=batch), answers)


def viewed(engine: str) -> TransformersTarget:
    model = tiny_model("llama", dtype=torch.float32).cuda()
    target = TransformersTarget(model, None, StaticCache(slots=64), SdpaAttention(), engine=engine)
    random_view(target, "noisy", noise=0.05)
    return target


@pytest.mark.parametrize("temperature", [0.0, 0.8])
@pytest.mark.parametrize("early", [False, True])
def test_trees_of_a_view_that_are_launched_ahead(early: bool, temperature: float) -> None:
    target, sampling = viewed("graphed"), Sampling(temperature)
    plain = Diffusion(target, 6, 3, "noisy")
    wanted = decode_with(target, plain, PROMPTS, STOP, verifier=Coupled(), sampling=sampling)
    drafter = Diffusion(target, 6, 3, "noisy", tree=16, early=early)
    results = decode_with(target, drafter, PROMPTS, STOP, verifier=Coupled(), sampling=sampling)
    assert [result.token_ids for result in results] == [result.token_ids for result in wanted]
    kept = [sum(result.measures.accepted_per_cycle) / result.measures.cycles for result in (*results, *wanted)]
    assert sum(kept[: len(results)]) >= sum(kept[len(results) :])  # of two tokens for a place one is right more often


def test_a_cycle_with_a_tree_adds_no_sync(monkeypatch: pytest.MonkeyPatch) -> None:
    target, stop = viewed("graphed"), Stop(60)
    drafter = Diffusion(target, 6, 3, "noisy", tree=16)
    first = decode_with(target, drafter, PROMPTS, stop)  # what is captured is captured
    tolist = torch.Tensor.tolist

    def allowed(tensor: torch.Tensor) -> Any:
        with syncs("default"):
            return tolist(tensor)

    monkeypatch.setattr(torch.Tensor, "tolist", allowed)
    with syncs("error"):  # any but the step's raises
        again = decode_with(target, drafter, PROMPTS, stop)
    assert [result.token_ids for result in again] == [result.token_ids for result in first]
