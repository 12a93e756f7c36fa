"""Every decoder here gives what the naive oracle gives, whatever the drafter proposes."""

from __future__ import annotations

import functools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.building import (
    assert_lossless,
    decode_with,
    family_oracle,
    table_target,
    target_oracle,
    transformers_target,
)
from support.drafters import ChanceDrafter, ScriptedDrafter
from support.families import VOCABULARY

from orthrus import Drafter, Stop
from orthrus_lookup.prompt_lookup import PromptLookup

FAMILIES = ["llama", "mistral", "gemma2", "gpt2", "qwen3_moe"]
KINDS = ["never right", "always right", "mixed", "empty", "by chance", "prompt lookup"]

target_of = functools.cache(transformers_target)


def stops(vocabulary: int) -> st.SearchStrategy[Stop]:
    """Draw limits, minima that fit, and stop tokens."""
    tokens = st.frozensets(st.integers(0, vocabulary - 1), max_size=3)
    return st.integers(0, 12).flatmap(
        lambda most: st.builds(Stop, st.just(most), st.integers(0, most), tokens, st.just(()))
    )


def make_drafter(kind: str, truths: list[list[int]], vocabulary: int, seed: int) -> Drafter:
    """Return an adversarial drafter that knows the rows' true continuations."""
    if kind == "by chance":
        return ChanceDrafter(vocabulary, length=4)
    if kind == "prompt lookup":
        return PromptLookup(max_ngram=2, min_ngram=1, length=4)
    right = {"never right": 0.0, "always right": 1.0, "mixed": 0.7, "empty": 1.0}[kind]
    lengths = [0] if kind == "empty" else [0, 1, 2, 5, 9]
    return ScriptedDrafter(truths, vocabulary, right, lengths, seed)


@pytest.mark.parametrize("family", FAMILIES)
@given(
    prompts=st.lists(st.lists(st.integers(0, VOCABULARY - 1), min_size=1, max_size=14), min_size=1, max_size=5),
    stop=stops(VOCABULARY),
    kind=st.sampled_from(KINDS),
    chunk=st.sampled_from([1, 3, 512]),
    seed=st.integers(0, 1000),
    batch=st.integers(1, 4),
)
def test_tiny_models(
    family: str, prompts: list[list[int]], stop: Stop, kind: str, chunk: int, seed: int, batch: int
) -> None:
    oracle = family_oracle(family)
    answers = [oracle(prompt, stop) for prompt in prompts]
    truths = [list(oracle(prompt, Stop(stop.max_new_tokens)).token_ids) for prompt in prompts]  # past any stop token
    target = target_of(family, chunk=chunk)
    results = decode_with(target, make_drafter(kind, truths, VOCABULARY, seed), prompts, stop, seed, batch)
    assert_lossless(results, answers)


@given(
    prompts=st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=6), min_size=1, max_size=6),
    stop=stops(4),
    strings=st.lists(st.text("abcd", min_size=1, max_size=3), max_size=2).map(tuple),
    kind=st.sampled_from(KINDS),
    table=st.integers(0, 30),
    seed=st.integers(0, 1000),
    batch=st.integers(1, 5),
)
def test_tables(
    prompts: list[list[int]], stop: Stop, strings: tuple[str, ...], kind: str, table: int, seed: int, batch: int
) -> None:
    target = table_target(table)
    oracle = target_oracle(target)
    stop = Stop(stop.max_new_tokens, stop.min_new_tokens, stop.token_ids, strings)
    truths = [list(oracle(prompt, Stop(stop.max_new_tokens)).token_ids) for prompt in prompts]
    results = decode_with(target, make_drafter(kind, truths, 4, seed), prompts, stop, seed, batch)
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
