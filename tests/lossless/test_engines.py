"""Fused layers and the static cache give the oracle's text too, over growing buckets and changing batches."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from support.building import assert_lossless, decode_with, family_oracle
from support.drafters import ScriptedDrafter
from support.families import VOCABULARY, tiny_model
from support.thorough import nightly_but

import orthrus
from orthrus import BuildError, KVCache, Stop
from orthrus_attention.sdpa import SdpaAttention
from orthrus_caches.dynamic import DynamicCache
from orthrus_caches.paged import PagedCache
from orthrus_caches.static import StaticCache
from orthrus_transformers.engines.choice import make_engine
from orthrus_transformers.engines.cuda_graphs import GraphedEngine
from orthrus_transformers.engines.eager import EagerEngine
from orthrus_transformers.engines.engine import EngineSetup, Obstacle
from orthrus_transformers.engines.graph_limits import GraphLimits
from orthrus_transformers.model.fused_layer import FusedLayer
from orthrus_transformers.model.pass_state import PassState
from orthrus_transformers.target import TransformersTarget

FUSED = ["llama", "mistral", "qwen2", "qwen3"]


def target_of(family: str, engine: str, cache: KVCache) -> TransformersTarget:
    return TransformersTarget(tiny_model(family), None, cache, SdpaAttention(), engine=engine)


CACHES: dict[str, Callable[[], KVCache]] = {
    "dynamic": DynamicCache,
    "paged": lambda: PagedCache(block=4),
    "static": lambda: StaticCache(slots=16),
}
CASES = list(itertools.product(FUSED, ("eager", "fused"), CACHES))


@pytest.mark.parametrize(
    ("family", "engine", "cache"), nightly_but([("mistral", "fused", "static")], CASES, thorough=CASES[::2])
)
def test_engines_and_caches(family: str, engine: str, cache: str) -> None:
    chooser, stop = random.Random(family), Stop(30)
    prompts = [[chooser.randrange(VOCABULARY) for _ in range(length)] for length in (3, 15, 1, 40, 7)]
    answers = [family_oracle(family)(prompt, stop) for prompt in prompts]
    target = target_of(family, engine, CACHES[cache]())
    for batch in (5, 2, 1, 5):  # the batch changes, and changes back; buckets of 16, 32, 64 and 128 slots
        drafter = ScriptedDrafter([answer.token_ids for answer in answers], VOCABULARY, 0.7, [0, 3, 6])
        assert_lossless(decode_with(target, drafter, prompts, stop, batch=batch), answers)


@pytest.mark.parametrize("family", FUSED)
def test_every_layer_is_fused_and_the_models_own_forward_is_not(family: str) -> None:
    own, model = tiny_model(family), tiny_model(family)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    target = TransformersTarget(model, None, DynamicCache(), SdpaAttention(), engine="fused")
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    ran: list[int] = []
    real = FusedLayer.forward
    FusedLayer.forward = lambda *args: ran.append(1) or real(*args)  # type: ignore[method-assign,func-returns-value]
    try:
        logits = target.logits(list(range(12)), 12)
        assert not ran
        decode_with(target, ScriptedDrafter([[1] * 4], VOCABULARY, 1.0, [2]), [[1, 2]], Stop(2))
    finally:
        FusedLayer.forward = real  # type: ignore[method-assign]
    assert len(ran) == 2 * model.config.num_hidden_layers  # the prefill and one cycle
    with torch.no_grad():
        assert torch.equal(logits, own(torch.tensor([list(range(12))])).logits[0])


def test_joined_weights_are_not_held_twice() -> None:
    model = tiny_model("llama")
    TransformersTarget(model, None, DynamicCache(), SdpaAttention(), engine="fused")
    attention = model.model.layers[0].self_attn
    storage = attention.q_proj.weight.untyped_storage().data_ptr()
    assert attention.v_proj.weight.untyped_storage().data_ptr() == storage


def test_graphs_need_a_gpu() -> None:
    with pytest.raises(BuildError, match="'graphed' needs a CUDA device, not cpu; set engine=eager"):
        target_of("llama", "graphed", StaticCache())


def as_if_on(device: str) -> Callable[[EngineSetup], Obstacle | None]:
    """Return what keeps passes from being captured, were the model on another device."""
    real = GraphedEngine.obstacle
    model = SimpleNamespace(device=torch.device(device))
    return lambda setup: real(replace(setup, model=model))


class Uncapturable(SdpaAttention):
    capabilities = replace(SdpaAttention.capabilities, graphs=False)


NEEDS = "target.engine: 'auto' runs passes without CUDA graphs, which need "
STAYING, OTHER = "another cache than DynamicCache, whose buffers move", "another attention than Uncapturable"


@pytest.mark.parametrize(
    ("cache", "attention", "said"),
    [
        (StaticCache, SdpaAttention, None),
        (DynamicCache, SdpaAttention, f"{NEEDS}{STAYING}; set cache.name=static"),
        (StaticCache, Uncapturable, f"{NEEDS}{OTHER}; set attention.name=split"),
        (DynamicCache, Uncapturable, f"{NEEDS}{STAYING} and {OTHER}; set cache.name=static and attention.name=split"),
    ],
)
def test_what_keeps_passes_from_being_captured_is_said(
    cache: type[KVCache], attention: type[SdpaAttention], said: str | None
) -> None:
    def heard(engine: str, device: str) -> list[str]:
        sentences: list[str] = []
        model = tiny_model("llama")
        state = PassState(attention(), model.dtype)
        setup = EngineSetup(model, cache(), state, None, GraphLimits(), notify=sentences.append)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(GraphedEngine, "obstacle", as_if_on(device))
            patch.setattr(GraphedEngine, "make", EagerEngine.make)
            make_engine(engine, setup)
        return sentences

    assert heard("auto", "cuda") == ([said] if said else [])
    for engine, device in (("auto", "cpu"), ("auto", "mps"), ("eager", "cuda"), ("fused", "cuda")):
        assert heard(engine, device) == []  # nothing to be had, or chosen so


def test_it_is_said_once_to_who_builds_the_target(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tiny_model("llama").save_pretrained(tmp_path)
    heard: list[str] = []
    parts = {"attention": {"name": "sdpa"}, "cache": {"name": "dynamic"}, "drafter": {"name": "none"}}
    config = {"target": {"name": "transformers", "source": str(tmp_path), "device": "cpu"}, **parts}
    orthrus.load(config, notify=heard.append).generate([[1, 2]])
    assert heard == []
    monkeypatch.setattr(GraphedEngine, "obstacle", as_if_on("cuda"))
    orthrus.load(config, notify=heard.append).generate([[1, 2]])
    assert heard == [f"{NEEDS}{STAYING}; set cache.name=static"]


def test_a_model_may_be_attached_again() -> None:
    # The second target must still hold its passes against transformers' own attention, not against the first one's.
    model = tiny_model("llama")
    for cache in (DynamicCache(), StaticCache(slots=16)):
        target = TransformersTarget(model, None, cache, SdpaAttention())
    with torch.no_grad():
        wanted = tiny_model("llama")(torch.tensor([[1, 2, 3]])).logits[0]
    assert torch.equal(target.logits([1, 2, 3], 3), wanted)


def test_an_engine_asked_for_by_name_is_not_replaced_in_silence() -> None:
    with pytest.raises(BuildError, match="'fused' has no form for model type 'gpt2'; set engine=eager"):
        target_of("gpt2", "fused", DynamicCache())
