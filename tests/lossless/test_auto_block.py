"""Whatever size `auto` chooses, the text is the oracle's; measuring leaves what is committed as it was."""

from __future__ import annotations

import functools
import itertools
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given
from hypothesis import strategies as st
from support.building import (
    assert_held,
    buffers_of,
    decode_with,
    family_oracle,
    table_target,
    target_oracle,
    transformers_target,
)
from support.families import VOCABULARY, tiny_model
from support.own_cache import use_own_cache
from support.settings import set_rows
from support.successors import random_head
from support.thorough import thorough_but
from support.views import committed, random_view

import orthrus
from orthrus import AutoBlock, Chance, Drafter, Sampling, Stop, Target
from orthrus.drafting.policy import DraftLengthPolicy
from orthrus.sampling import draw_draft
from orthrus.testing.profiles import fewer
from orthrus.testing.strategies import batches, stop_tokens
from orthrus_attention.sdpa import SdpaAttention
from orthrus_caches.dynamic import DynamicCache
from orthrus_caches.static import StaticCache
from orthrus_diffusion import drafter
from orthrus_diffusion.drafter import Diffusion
from orthrus_drafters.prompt_lookup import LONGEST, PromptLookup
from orthrus_transformers.engines.forward_pass import ForwardPass
from orthrus_transformers.target import TransformersTarget

MASK = VOCABULARY - 1


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_own_cache(monkeypatch, tmp_path)


@functools.cache
def target_of(family: str, static: bool) -> TransformersTarget:
    target = transformers_target(family, StaticCache(slots=8) if static else None, chunk=5)
    random_view(target, "nearly copied", noise=0.02)
    return target


def lookup(target: Target) -> PromptLookup:
    return PromptLookup(2, 1, LONGEST, auto=AutoBlock(target, LONGEST))


def test_what_is_measured_for_a_view_draws_if_its_drafts_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    target, drawn = target_of("llama", True), []
    monkeypatch.setattr(drafter, "draw_draft", lambda *args: (drawn.append(args[3]), draw_draft(*args))[1])
    for temperature in (0.0, 1.0):
        context = committed(target, [[1, 2, 3]], room=20)
        set_rows(context, sampling=Sampling(temperature=temperature))
        drafting = diffusion(target)
        drafting.start(context, [0])
        drafting.propose(context, Chance(0))
        assert bool(drawn) is (temperature > 0)
    assert len({int(lengths[0]) for lengths in drawn}) > 1  # of several sizes


def diffusion(target: TransformersTarget, headed: bool = False, early: bool | None = None) -> Diffusion:
    head = random_head(target, "nearly copied", 0.05) if headed else None
    return Diffusion(target, 16, MASK, "nearly copied", auto=True, successor=head, early=early)


@pytest.mark.parametrize("family", thorough_but(["llama"], ["llama", "gemma3_text", "gpt2"]))
@given(
    prompts=batches(VOCABULARY, longest=14, rows=4),
    limits=st.lists(st.integers(0, 24), min_size=2, max_size=2),
    stops=stop_tokens(VOCABULARY),
    batch=st.integers(1, 4),
    static=st.booleans(),
    kind=st.sampled_from(["lookup", "view", "view and head"]),
)
@fewer(20, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_any_rows_and_limits(
    family: str,
    prompts: list[list[int]],
    limits: list[int],
    stops: frozenset[int],
    batch: int,
    static: bool,
    kind: str,
) -> None:
    target = target_of(family, static)
    drafter: Drafter = lookup(target) if kind == "lookup" else diffusion(target, headed="head" in kind)
    for limit in limits:  # the second time it knows more
        stop = Stop(limit, token_ids=stops)
        results = decode_with(target, drafter, prompts, stop, batch=batch)
        assert_held(results, family_oracle(family), prompts, stop)


@pytest.mark.parametrize("choices", thorough_but([[0, 31, 1, 7]], [[0, 31, 1, 7], [31], [3, 0, 0, 15]]))
@pytest.mark.parametrize("rows", thorough_but([3], [1, 3]))
def test_any_sequence_of_sizes(choices: list[int], rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = itertools.cycle(choices)
    top: list[int] = []

    def weigh(self: DraftLengthPolicy, available: list[int | None], costs: list[float]) -> int:
        top.append(self.sizes[len(costs) - 1])
        return min(next(sizes), top[-1])

    monkeypatch.setattr(DraftLengthPolicy, "weigh", weigh)
    target = table_target(seed=2)
    prompts, stop = [[1, 2, 1, 2, 1], [3], [0, 0]][:rows], Stop(50, min_new_tokens=2, token_ids=frozenset({3}))
    results = decode_with(target, lookup(target), prompts, stop)
    assert_held(results, target_oracle(target), prompts, stop)
    viewed = target_of("llama", True)
    for headed in (False, True):
        results = decode_with(viewed, diffusion(viewed, headed), prompts, stop)
        assert_held(results, family_oracle(), prompts, stop)
    assert max(top) > 7


@pytest.mark.parametrize("static", thorough_but([True], [False, True]))
def test_measuring_leaves_what_is_committed(static: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes of the committed slots, lengths and tokens, before and after all sizes were scored and drafted."""
    cache = StaticCache(slots=8) if static else DynamicCache()  # it has to grow meanwhile
    target = TransformersTarget(tiny_model(), None, cache, SdpaAttention())
    random_view(target, "nearly copied")
    context = committed(target, [[1, 2, 3], [7] * 20], room=40)

    def state() -> list[bytes]:
        lengths = context.lengths.tolist()
        held = [
            buffer[row, :, : length - 1].contiguous().numpy().tobytes()
            for kept in buffers_of(cache)
            for buffer in kept
            for row, length in enumerate(lengths)
        ]
        return [
            *held,
            cache.lengths.numpy().tobytes(),
            context.tokens.numpy().tobytes(),
            context.room.numpy().tobytes(),
        ]

    before = state()
    passes: list[int] = []
    own = target.engine.run

    def noted(forward_pass: ForwardPass) -> torch.Tensor:
        passes.append(forward_pass.width)
        return own(forward_pass)

    monkeypatch.setattr(target.engine, "run", noted)
    drafter = diffusion(target)
    drafter.start(context, [0, 1])
    drafter.propose(context, None)  # type: ignore[arg-type]  # it draws nothing
    assert {1, 3, 7, 15} <= set(passes)  # of the view: of the target, anchors alone are counted
    assert state() == before


@pytest.mark.thorough
def test_widths_are_few(monkeypatch: pytest.MonkeyPatch) -> None:
    target = target_of("llama", True)
    widths: set[int] = set()
    own = target.engine.run

    def noted(forward_pass: ForwardPass) -> torch.Tensor:
        if forward_pass.slots is None:  # no prefill
            widths.add(forward_pass.width)
        return own(forward_pass)

    monkeypatch.setattr(target.engine, "run", noted)
    for limit in (5, 24, 60):
        for chosen in (diffusion(target, early=True), lookup(target)):  # on a CPU a view's drafts are cut anywhere
            decode_with(target, chosen, [[1, 2, 1, 2], [3], [4, 5]], Stop(limit))
    assert widths <= {1, 2, 4, 8, 16, 32}


def test_a_config_says_auto_and_the_drafter_says_that_it_learns() -> None:
    recipe = {
        "target": {
            "name": "transformers",
            "source": "tests/data/tiny-orthrus-qwen3",
            "dtype": "float32",
            "device": "cpu",
        },
        "attention": {"name": "sdpa"},
        "cache": {"name": "dynamic"},
        "drafter": {"name": "diffusion", "block": "auto"},
        "verifier": {"name": "consensus"},
        "stop": {"max_new_tokens": 64},
    }
    prompt = [7, 10, 13, 16, 19, 22, 25, 28, 31]
    decoder = orthrus.load(recipe)
    [answer] = decoder.generate([prompt])
    [plain] = orthrus.load(recipe, drafter="none").generate([prompt])
    assert answer.token_ids == plain.token_ids
    assert decoder.drafter.learns
    assert not orthrus.load(recipe, target=decoder.target, drafter={"block": 4}).drafter.learns


def test_rows_refill_under_it() -> None:
    target = table_target(seed=1)
    drafter = lookup(target)
    prompts = [[token, two] for token in range(4) for two in range(3)]
    results = decode_with(target, drafter, prompts, Stop(30), batch=3)
    assert_held(results, target_oracle(target), prompts, Stop(30))
    assert sum(sum(result.measures.accepted_per_cycle) for result in results) > 0
