"""Models whose angles depend on how far a pass reaches: their text is greedy decoding's, whatever the passes hold."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.building import Oracle, assert_lossless, decode_with, model_of
from support.drafters import ScriptedDrafter
from support.families import CONTEXT, VOCABULARY, tiny_model
from support.longrope import ORIGINAL, longrope_model, longrope_target
from support.recordings import Recorded
from support.thorough import thorough_but
from torch import Tensor

from orthrus import InputError, Parts, Result, Stop
from orthrus.testing import greedy
from orthrus.testing.profiles import fewer
from orthrus_attention.sdpa import SdpaAttention
from orthrus_caches.static import StaticCache
from orthrus_drafters.none import NoDrafter
from orthrus_transformers import baselines
from orthrus_transformers.engines.engine import Engine, EngineSetup, EngineType
from orthrus_transformers.target import TransformersTarget

TARGETS: dict[str, tuple[str, Callable[[], TransformersTarget]]] = {
    "eager": ("phi3", longrope_target),
    "by layer": ("gemma3_text", lambda: longrope_target("gemma3_text")),
    "fused": ("llama", lambda: longrope_target("llama", "fused")),
    "recorded": ("phi3", lambda: longrope_target(engine=Recorded())),
    "recorded, fused": ("llama", lambda: longrope_target("llama", Recorded("fused"))),
}
LONG, SHORT = [(7 * index + 3) % VOCABULARY for index in range(ORIGINAL - 4)], [5, 1, 8]


@functools.cache
def target_of(name: str) -> TransformersTarget:
    return TARGETS[name][1]()


@functools.cache
def oracle_of(family: str) -> Oracle:
    """Return the naive oracle over a model of its own, which never sees a token beyond the short angles."""
    model = longrope_model(family)

    @functools.lru_cache(maxsize=5_000)
    @torch.no_grad()
    def logits(tokens: tuple[int, ...]) -> Tensor:
        assert len(tokens) < ORIGINAL
        logits: Tensor = model(torch.tensor([tokens]), use_cache=False).logits[0, -1]
        return logits.clone()

    return lambda prompt, stop: greedy(lambda tokens: logits(tuple(tokens)), prompt, stop, max_length=ORIGINAL)


def drafted(target: TransformersTarget, oracle: Oracle, prompts: list[list[int]], batch: int, **how: Any) -> None:
    """Assert that answers as long as may be are the oracle's."""
    answers = [oracle(prompt, Stop(CONTEXT)) for prompt in prompts]
    drafter = ScriptedDrafter([answer.token_ids for answer in answers], VOCABULARY, **how)
    assert_lossless(decode_with(target, drafter, prompts, Stop(CONTEXT), batch=batch), answers)


@pytest.mark.parametrize("name", thorough_but(["recorded, fused"], TARGETS))
@fewer(20)
@given(
    lengths=st.lists(st.integers(1, ORIGINAL - 1), min_size=1, max_size=4),
    batch=st.integers(1, 4),
    right=st.sampled_from([0.0, 0.7, 1.0]),
    widths=st.lists(st.integers(0, 9), min_size=1, max_size=3),
)
def test_texts_are_the_oracles_to_the_end_of_the_short_angles(
    name: str, lengths: list[int], batch: int, right: float, widths: list[int]
) -> None:
    prompts = [[(7 * index + 3 * length) % VOCABULARY for index in range(length)] for length in lengths]
    drafted(target_of(name), oracle_of(TARGETS[name][0]), prompts, batch, right=right, lengths=widths)


FAULTS: dict[str, tuple[str, list[list[int]], int]] = {
    "a draft": ("eager", [SHORT], 8),
    "another row": ("eager", [SHORT, LONG], 0),
    "padding": ("recorded", [SHORT], 0),
    "a draft, fused": ("fused", [SHORT], 8),
}


@pytest.mark.parametrize("fault", thorough_but(["another row", "a draft, fused"], FAULTS))
@pytest.mark.parametrize("held", [True, False])
def test_without_the_limit_texts_differ(fault: str, held: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """What reaches beyond the short angles changes a row that is within them."""
    if not held:
        monkeypatch.setattr("orthrus_transformers.target.max_length", lambda model: CONTEXT)
    name, prompts, width = FAULTS[fault]
    family, make = TARGETS[name]
    wanted = oracle_of(family)(SHORT, Stop(CONTEXT)).token_ids
    drafter = ScriptedDrafter([wanted] * len(prompts), VOCABULARY, 1.0, [width])
    token_ids = decode_with(make(), drafter, prompts, Stop(CONTEXT // 2))[0].token_ids
    assert (token_ids[: len(wanted)] == wanted) is held


def test_a_prompt_that_leaves_no_room_is_refused() -> None:
    with pytest.raises(InputError, match=f"has {ORIGINAL} tokens; the model's context of {ORIGINAL} leaves no room"):
        decode_with(target_of("eager"), NoDrafter(), [[1] * ORIGINAL], Stop(4))
    assert len(decode_with(target_of("eager"), NoDrafter(), [[1] * (ORIGINAL - 1)], Stop(4))[0].token_ids) == 1


@pytest.mark.parametrize("name", ["generate", "generate_static"])  # generate's prompt lookup drafts beyond the end
def test_baselines_end_there_with_the_same_text(name: str) -> None:
    baseline = getattr(baselines, name)(None, Parts(target=target_of("eager")))
    for prompt in (SHORT, LONG, [1, 2, 1, 2, 1, 2]):
        wanted = oracle_of("phi3")(prompt, Stop(CONTEXT)).token_ids
        assert baseline.answer([prompt], Stop(CONTEXT)).token_ids == (wanted,)


def dynamic_target(engine: EngineType | None = None) -> TransformersTarget:
    """Return one whose angles change where a pass goes beyond the context itself: 24 positions."""
    model = tiny_model("llama", max_position_embeddings=ORIGINAL)
    angles = {"rope_type": "dynamic", "rope_theta": 10_000.0, "factor": 8.0}
    model.config.rope_parameters = angles
    model = type(model)(model.config).to(torch.float64).eval().requires_grad_(False)
    model.load_state_dict(tiny_model("llama").state_dict())
    return TransformersTarget(model, None, StaticCache(slots=16), SdpaAttention(), engine=engine or Recorded())


def dynamic_results(target: TransformersTarget) -> tuple[list[Result], list[Any]]:
    prompts = [SHORT, LONG, LONG[:9]]
    answers = [
        greedy(lambda tokens: target.logits(tokens, 1)[0], prompt, Stop(CONTEXT), max_length=ORIGINAL)
        for prompt in prompts
    ]
    drafter = ScriptedDrafter([answer.token_ids for answer in answers], VOCABULARY, 0.7, [0, 3, 6])
    return decode_with(target, drafter, prompts, Stop(CONTEXT), batch=2), answers


def test_dynamic_angles_never_change_within_the_context() -> None:
    target = dynamic_target()
    assert target.max_length == ORIGINAL
    assert_lossless(*dynamic_results(target))
    rotary = model_of(target).model.rotary_emb
    assert torch.equal(rotary.inv_freq, rotary.original_inv_freq)


class GoesOn(Recorded):
    """The engine that does not know how long texts may be."""

    def make(self, setup: EngineSetup) -> Engine:
        return super().make(replace(setup, max_length=None))


def test_they_would_if_positions_went_on() -> None:
    target = dynamic_target(GoesOn())
    target.moves_rows = False  # a row that has ended stays in the last pass
    dynamic_results(target)
    rotary = model_of(target).model.rotary_emb
    assert not torch.equal(rotary.inv_freq, rotary.original_inv_freq)
