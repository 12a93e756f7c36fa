"""Every decoder here gives what the naive oracle gives, whatever the drafter proposes."""

from __future__ import annotations

import functools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.building import (
    Oracle,
    assert_lossless,
    decode_with,
    family_oracle,
    fused_target,
    target_oracle,
    transformers_target,
)
from support.drafters import ChanceDrafter, ScriptedDrafter
from support.families import VOCABULARY
from support.recordings import recording_target
from support.thorough import thorough_but

from orthrus import Drafter, Stop, Target
from orthrus.testing import TableTarget
from orthrus.testing.doubles.drafters import HistoryDrafter, Turn
from orthrus.testing.profiles import fewer
from orthrus.testing.strategies import batches, histories, stops, tables
from orthrus_caches.dynamic import DynamicCache
from orthrus_drafters.prompt_lookup import PromptLookup

FAMILIES = ["llama", "mistral", "gemma2", "gpt2", "qwen3_moe"]
KINDS = ["history", "by chance", "prompt lookup"]

target_of = functools.cache(transformers_target)
ENGINES = {"fused": functools.cache(fused_target), "recorded": functools.cache(recording_target)}


def make_drafter(kind: str, truths: list[tuple[int, ...]], vocabulary: int, history: list[Turn]) -> Drafter:
    """Return a drafter; one kind knows the rows' true continuations, and is as right as a history says."""
    return {
        "history": HistoryDrafter(truths, history),
        "by chance": ChanceDrafter(vocabulary, length=4),
        "prompt lookup": PromptLookup(max_ngram=2, min_ngram=1, length=4),
    }[kind]


DRAWN: dict[str, Any] = {
    "prompts": batches(VOCABULARY, longest=14),
    "stop": stops(VOCABULARY),
    "kind": st.sampled_from(KINDS),
    "history": histories(width=9),
    "chunk": st.sampled_from([1, 3, 512]),
    "seed": st.integers(0, 1000),
    "batch": st.integers(1, 4),
}


def hold_a_model(
    target: Target,
    oracle: Oracle,
    prompts: list[list[int]],
    stop: Stop,
    kind: str,
    history: list[Turn],
    seed: int,
    batch: int,
) -> None:
    """Assert that the texts are the oracle's."""
    truths = [oracle(prompt, Stop(stop.max_new_tokens)).token_ids for prompt in prompts]  # past any stop token
    results = decode_with(target, make_drafter(kind, truths, VOCABULARY, history), prompts, stop, seed, batch)
    assert_lossless(results, [oracle(prompt, stop) for prompt in prompts])


@pytest.mark.parametrize("family", thorough_but(["llama"], FAMILIES))
@fewer(14)  # models are slow; `test_tables` has seven times as many
@given(**DRAWN)
def test_tiny_models(family: str, chunk: int, **drawn: Any) -> None:
    hold_a_model(target_of(family, chunk=chunk), family_oracle(family), **drawn)


@pytest.mark.parametrize("engine", ENGINES)
@fewer(16)  # the engines differ in a pass, and not in what is drafted
@given(**DRAWN)
def test_engines(engine: str, chunk: int, **drawn: Any) -> None:
    hold_a_model(ENGINES[engine](chunk), family_oracle("llama"), **drawn)


@fewer(2)
@given(
    target=tables(4, orders=(1, 2), cache=DynamicCache),
    prompts=batches(4, longest=6, rows=6),
    stop=stops(4, strings=2),
    kind=st.sampled_from(KINDS),
    history=histories(width=9),
    seed=st.integers(0, 1000),
    batch=st.integers(1, 5),
)
def test_tables(
    target: TableTarget, prompts: list[list[int]], stop: Stop, kind: str, history: list[Turn], seed: int, batch: int
) -> None:
    oracle = target_oracle(target)
    truths = [oracle(prompt, Stop(stop.max_new_tokens)).token_ids for prompt in prompts]
    results = decode_with(target, make_drafter(kind, truths, 4, history), prompts, stop, seed, batch)
    assert_lossless(results, [oracle(prompt, stop) for prompt in prompts])


def test_right_drafts_are_accepted_and_wrong_ones_are_not() -> None:
    # Under consensus a broken drafter gives slow text, never wrong text: acceptance needs a test of its own.
    prompt, stop = [3, 1, 4], Stop(20)
    truth = list(family_oracle()(prompt, stop).token_ids)
    right = decode_with(target_of("llama"), ScriptedDrafter([truth], VOCABULARY, 1.0, [4]), [prompt], stop)[0]
    wrong = decode_with(target_of("llama"), ScriptedDrafter([truth], VOCABULARY, 0.0, [4]), [prompt], stop)[0]
    assert right.measures.accepted_per_cycle == (4, 4, 4, 4)  # the last is cut to the room: 1 + 3 * 5 + 4 = 20
    assert wrong.measures.accepted_per_cycle == (0,) * 19
    assert right.token_ids == wrong.token_ids == tuple(truth)
