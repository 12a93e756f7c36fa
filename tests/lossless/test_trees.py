"""Trees of drafts: the text is the naive oracle's whatever branches there are, on every cache that takes them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.building import assert_lossless, decode_with, family_oracle, target_oracle, transformers_target
from support.families import VOCABULARY, tiny_model
from support.native import needs_kernels
from support.recordings import recording_target
from support.thorough import thorough_but
from support.views import committed

from orthrus import Decoder, Draft, Drafter, KVCache, Result, Sampling, Stop
from orthrus.chance import Chance, request_key
from orthrus.reference.table import random_table
from orthrus.testing import PlainCache, sample
from orthrus.testing.doubles.trees import ScriptedTrees
from orthrus.testing.profiles import fewer
from orthrus.testing.strategies import batches, samplings, stops
from orthrus_attention.sdpa import SdpaAttention
from orthrus_caches.dynamic import DynamicCache
from orthrus_caches.paged import PagedCache
from orthrus_caches.static import StaticCache
from orthrus_drafters.none import NoDrafter
from orthrus_transformers.target import TransformersTarget
from orthrus_verifiers.coupled import Coupled

CACHES: dict[str, Callable[[], KVCache]] = {
    "plain": PlainCache,
    "dynamic": DynamicCache,
    "static": lambda: StaticCache(slots=16),
    "paged": lambda: PagedCache(block=4),
}


def texts_of(truths: list[tuple[int, ...]]) -> dict[int, tuple[int, ...]]:
    """Return texts by the keys that the decoder gives its requests."""
    return {request_key(str(index)): truth for index, truth in enumerate(truths)}


@fewer(4)
@given(
    cache=st.sampled_from(sorted(CACHES)),
    order=st.integers(1, 3),
    prompts=batches(4, longest=6, rows=5),
    stop=stops(4, strings=2),
    right=st.sampled_from([0.0, 0.5, 0.9]),
    seed=st.integers(0, 1000),
    batch=st.integers(1, 5),
)
def test_greedy_texts_of_tables(
    cache: str, order: int, prompts: list[list[int]], stop: Stop, right: float, seed: int, batch: int
) -> None:
    target = random_table(seed, "abcd", order, CACHES[cache]())
    oracle = target_oracle(target)
    truths = [oracle(prompt, Stop(stop.max_new_tokens)).token_ids for prompt in prompts]
    drafter = ScriptedTrees(texts_of(truths), 4, seed, right)
    results = decode_with(target, drafter, prompts, stop, seed, batch)
    assert_lossless(results, [oracle(prompt, stop) for prompt in prompts])


@fewer(8)
@given(
    prompts=batches(4, longest=6, rows=4),
    stop=stops(4),
    sampling=samplings(4),
    seed=st.integers(0, 1000),
    batch=st.integers(1, 4),
)
def test_coupled_samples_of_tables(
    prompts: list[list[int]], stop: Stop, sampling: Sampling, seed: int, batch: int
) -> None:
    # The noise of a place is fixed, so the sample is the oracle's under every setting: penalties, bad words, cuts.
    target, chance = random_table(seed, cache=DynamicCache()), Chance(seed)

    def answer(key: int, prompt: list[int], limits: Stop) -> Any:
        def noise(position: int) -> Any:
            at = chance.gumbel(torch.tensor([key]), torch.tensor([[position]]), 4)[0, 0]
            return at if sampling.temperature else torch.zeros_like(at)

        return sample(lambda tokens: target.logits(tokens, 1)[0], prompt, limits, noise, sampling=sampling)

    keys = [request_key(str(index)) for index in range(len(prompts))]
    truths = [answer(key, prompt, stop) for key, prompt in zip(keys, prompts, strict=True)]
    drafter = ScriptedTrees(texts_of([truth.token_ids for truth in truths]), 4, seed)
    decoder = Decoder.of(target, drafter, Coupled(), stop, seed, sampling)
    assert_lossless(decoder.generate(prompts, batch=batch), truths)


@pytest.mark.parametrize("attention", thorough_but([], ["sdpa", "eager"]))
@fewer(33)  # a model's passes, and its oracle's for every token
@given(
    prompts=batches(VOCABULARY, longest=12),
    stop=stops(VOCABULARY),
    right=st.sampled_from([0.4, 0.9]),
    seed=st.integers(0, 1000),
    batch=st.integers(1, 4),
)
def test_texts_of_models(
    attention: str, prompts: list[list[int]], stop: Stop, right: float, seed: int, batch: int
) -> None:
    target, oracle = transformers_target("llama", StaticCache(slots=16), attention=attention), family_oracle("llama")
    truths = [oracle(prompt, Stop(stop.max_new_tokens)).token_ids for prompt in prompts]
    drafter = ScriptedTrees(texts_of(truths), VOCABULARY, seed, right, sizes=(0, 3, 8, 20))
    results = decode_with(target, drafter, prompts, stop, seed, batch)
    assert_lossless(results, [oracle(prompt, stop) for prompt in prompts])


def test_scores_are_those_along_the_accepted_path() -> None:
    target = random_table(4, cache=DynamicCache())
    oracle = target_oracle(target)
    texts = texts_of([oracle(prompt, Stop(30)).token_ids for prompt in ([1, 2], [3])])

    def scored(drafter: Drafter) -> list[Result]:
        session = Decoder.of(target, drafter, Coupled(), Stop(30)).session(2)
        for index, prompt in enumerate(([1, 2], [3])):
            session.add(prompt, id=str(index), logprobs=2)
        results = {event.id: event.result for event in session if event.result is not None}
        return [results["0"], results["1"]]

    for tree, plain in zip(scored(ScriptedTrees(texts, 4, 1, sizes=(4, 9))), scored(NoDrafter()), strict=True):
        assert any(tree.measures.accepted_per_cycle)
        assert (tree.token_ids, tree.scores) == (plain.token_ids, plain.scores)


recorded_target = functools.cache(recording_target)
TREE = [-1, 0, 0, 2, -1, 4, 1, 3, 3]  # the parent of each token
FAMILIES = ["llama", "mistral", "gemma2", "lfm2", "gpt_oss", "gpt2", "qwen3"]


def leads_to(token: int) -> list[int]:
    """Return the tokens on the path to one, by index."""
    return [] if token < 0 else [*leads_to(TREE[token]), token]


def hold_paths(target: TransformersTarget) -> None:
    """Hold each place of a scored tree to a chain of the tokens that lead to it, in rows of different lengths."""
    tokens = torch.randint(VOCABULARY, (2, len(TREE)), generator=torch.Generator().manual_seed(1))
    prompts = [list(range(11)), [4, 2]]
    tree = Draft(tokens, torch.full((2,), len(TREE)), parents=torch.tensor(TREE).expand(2, -1))
    together = target.score(committed(target, prompts), tree)
    for token in range(len(TREE)):
        path = leads_to(token)
        chain = Draft(tokens[:, path], torch.full((2,), len(path)))
        alone = target.score(committed(target, prompts), chain)
        wanted, scale = alone[:, -1], float(alone.std())
        tolerance = 1e-11 if alone.dtype == torch.float64 else 1e-4
        torch.testing.assert_close(together[:, token + 1], wanted, rtol=0, atol=tolerance * scale)


@pytest.mark.parametrize("family", thorough_but(["llama"], FAMILIES))
def test_a_token_of_a_tree_sees_the_path_that_leads_to_it(family: str) -> None:
    # Windows go by depth, and convolutions by the path; a sibling that is seen changes the logits.
    hold_paths(transformers_target(family, StaticCache(slots=16)))


def test_fused_layers_see_paths() -> None:
    hold_paths(transformers_target("llama", StaticCache(slots=16), engine="fused"))


@fewer(50)
@given(
    prompts=batches(VOCABULARY, longest=12),
    stop=stops(VOCABULARY),
    right=st.sampled_from([0.4, 0.9]),
    seed=st.integers(0, 1000),
    batch=st.integers(1, 4),
)
def test_recorded_passes_take_any_tree(
    prompts: list[list[int]], stop: Stop, right: float, seed: int, batch: int
) -> None:
    # What tells one tree from another is in the inputs of a recording: a stale mask would be that of the tree before.
    target, oracle = recorded_target(), family_oracle("llama")
    truths = [oracle(prompt, Stop(stop.max_new_tokens)).token_ids for prompt in prompts]
    drafter = ScriptedTrees(texts_of(truths), VOCABULARY, seed, right, sizes=(0, 3, 8))
    results = decode_with(target, drafter, prompts, stop, seed, batch)
    assert_lossless(results, [oracle(prompt, stop) for prompt in prompts])


@needs_kernels
@pytest.mark.parametrize("family", thorough_but(["llama"], ["llama", "mistral"]))
def test_native_kernels_see_paths_to_the_bit(family: str) -> None:
    model = tiny_model(family, dtype=torch.float32)
    target = TransformersTarget(model, None, DynamicCache(), SdpaAttention(), engine="native")
    hold_paths(target)
    tokens = torch.randint(VOCABULARY, (1, 5), generator=torch.Generator().manual_seed(2))
    length = torch.tensor([5])
    chain = target.score(committed(target, [list(range(9))]), Draft(tokens, length))
    branched = torch.cat([tokens[:, :1], tokens], dim=1)  # another first token, which the rest does not follow
    tree = Draft(branched, length + 1, parents=torch.tensor([[-1, -1, 1, 2, 3, 4]]))
    scored = target.score(committed(target, [list(range(9))]), tree)
    assert torch.equal(chain, scored[:, [0, 2, 3, 4, 5, 6]])
