"""Drafters that make trees: the text is the oracle's, and the trees are what they say; they help, where they can."""

from __future__ import annotations

import functools
import heapq
import random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.building import assert_held, decode_with, family_oracle, table_target, transformers_target
from support.families import VOCABULARY
from support.sampled import coupled_answers, decoded, greedy_answers
from support.thorough import nightly_but
from support.views import random_view
from torch import Tensor

from orthrus import Drafter, Sampling, Stop, Target
from orthrus.testing import Scene, TableTarget, drafter_checks
from orthrus.testing.profiles import fewer
from orthrus.testing.strategies import batches, samplings, stops
from orthrus_caches.dynamic import DynamicCache
from orthrus_caches.static import StaticCache
from orthrus_cascade.drafter import Cascade
from orthrus_diffusion.drafter import Diffusion
from orthrus_diffusion.tree import CANDIDATES, best_first
from orthrus_draft_model.drafter import DraftModel
from orthrus_drafters.options import SuffixOptions
from orthrus_drafters.prompt_lookup import PromptLookup
from orthrus_drafters.suffix import Suffix
from orthrus_transformers.target import TransformersTarget
from orthrus_verifiers.consensus import Consensus
from orthrus_verifiers.coupled import Coupled

MASK = VOCABULARY - 1
NOISE = {"noisy": 0.3, "nearly copied": 0.02}


def another_table(target: Target) -> TableTarget:
    """Return a table that often says what a target of the kit says."""
    size = target.vocabulary_size
    own = torch.stack([target.logits([token], 1)[0] for token in range(size)])  # of the last token alone
    noise = torch.randn(size, size, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return TableTarget(0.7 * own + 0.3 * noise, DynamicCache(), max_length=target.max_length)


def of_a_view(target: Target) -> Diffusion:
    target.attach_view("copy")  # type: ignore[attr-defined]  # the kit's target has views
    return Diffusion(target, 4, 0, "copy", tree=5)  # type: ignore[arg-type]


DRAFTERS = {
    "suffix": lambda target: Suffix(SuffixOptions(branches=3, min_share=0.0)),
    "draft_model": lambda target: DraftModel(target, another_table(target), 2, branches=2),
    "diffusion": of_a_view,
    "cascade": lambda target: Cascade(
        [Suffix(SuffixOptions(branches=2, min_match=3)), PromptLookup(2, 1, 4)], "passes"
    ),
}
CHECKS = drafter_checks()
QUICK = ("draft_fits_the_room", "parents_come_first", "greedy_text")
KIT = [(name, check) for name in DRAFTERS if name != "cascade" for check in CHECKS]


@pytest.mark.parametrize(
    ("name", "check"),
    nightly_but([], KIT, thorough=[(name, check) for name, check in KIT if check.name in QUICK]),
    ids=str,
)
def test_the_kit_accepts_their_trees(name: str, check: object) -> None:
    assert check.outcome(DRAFTERS[name]).status in ("passed", "did not apply")  # type: ignore[attr-defined]


@fewer(16)
@given(
    name=st.sampled_from(["suffix", "draft_model", "cascade"]),
    prompts=batches(4, longest=6, rows=4),
    stop=stops(4, 12, tokens=1, strings=1),
    sampling=samplings(4, temperatures=(0.0, 0.5, 1.0)),
    seed=st.integers(0, 99),
    batch=st.integers(1, 4),
)
def test_texts_of_tables(
    name: str, prompts: list[list[int]], stop: Stop, sampling: Sampling, seed: int, batch: int
) -> None:
    target = table_target(seed)
    ids = [str(index) for index in range(len(prompts))]
    drawn = sampling.temperature > 0
    wanted = (
        coupled_answers(target, prompts, stop, sampling, 3, ids)
        if drawn
        else greedy_answers(target, prompts, stop, sampling)
    )
    for verifier in (Coupled(), Consensus())[: 2 - drawn]:
        drafter: Drafter = DRAFTERS[name](target)
        assert decoded(target, drafter, verifier, prompts, stop, sampling, 3, batch) == wanted


@functools.cache
def target_of(static: bool) -> TransformersTarget:
    target = transformers_target("llama", StaticCache(slots=8) if static else None, chunk=5)
    for kind, noise in NOISE.items():
        random_view(target, kind, noise=noise)
    return target


@fewer(50)  # a model's passes, and its oracle's for every token
@given(
    prompts=batches(VOCABULARY, longest=14, rows=4),
    stop=stops(VOCABULARY),
    kind=st.sampled_from(sorted(NOISE)),
    block=st.integers(2, 17),
    nodes=st.integers(2, 40),
    temperature=st.sampled_from([0.0, 0.7]),
    batch=st.integers(1, 4),
    static=st.booleans(),
)
def test_trees_of_views(
    prompts: list[list[int]],
    stop: Stop,
    kind: str,
    block: int,
    nodes: int,
    temperature: float,
    batch: int,
    static: bool,
) -> None:
    target, sampling = target_of(static), Sampling(temperature)
    drafter = Diffusion(target, block, MASK, kind, tree=nodes)
    results = decode_with(target, drafter, prompts, stop, 1, batch, Coupled(), sampling)
    if temperature == 0:
        assert_held(results, family_oracle("llama"), prompts, stop)
        return
    plain = Diffusion(target, block, MASK, kind)
    again = decode_with(target, plain, prompts, stop, 1, len(prompts), Coupled(), sampling)
    assert [result.token_ids for result in results] == [result.token_ids for result in again]


def test_a_tree_is_accepted_as_far_as_the_chain_in_it_and_further() -> None:
    scene = Scene(seed=5, prompts=((0, 1), (2,)), max_new_tokens=40, spread=30.0)
    target = scene.target()
    target.attach_view("copy")
    chain = decode_with(target, Diffusion(target, 5, 0, "copy"), scene.prompts, Stop(40))
    tree = decode_with(target, Diffusion(target, 5, 0, "copy", tree=12), scene.prompts, Stop(40))
    assert [result.token_ids for result in tree] == [result.token_ids for result in chain]
    assert all(min(result.measures.accepted_per_cycle[:-3]) == 4 for result in (*chain, *tree))
    text = [0, 1, 2, 0, 1, 3, 0, 1, 2, 0, 1, 3, 0, 1]  # after 0, 1 come 2 and 3 in turn
    branches = decode_with(table_target(3), Suffix(SuffixOptions(branches=2, min_share=0.0)), [text], Stop(30))[0]
    one = decode_with(table_target(3), Suffix(SuffixOptions(min_share=0.0)), [text], Stop(30))[0]
    assert branches.token_ids == one.token_ids
    assert len(branches.measures.accepted_per_cycle) <= len(one.measures.accepted_per_cycle)


def naive_tree(scores: Tensor, room: int, nodes: int) -> list[tuple[int, ...]]:
    """Return the most probable paths, best first, by a heap: scores [D, V] are log-probabilities."""
    depth = min(len(scores), room)
    if not depth:
        return []
    likeliest = scores.argsort(dim=-1, descending=True, stable=True)[:, :CANDIDATES].tolist()
    heap = [(-float(scores[0, likeliest[0][0]]), (0,))]
    paths: list[tuple[int, ...]] = []
    while heap and len(paths) < min(nodes, room):
        cost, ranks = heapq.heappop(heap)
        place, rank = len(ranks) - 1, ranks[-1]
        paths.append(tuple(likeliest[at][which] for at, which in enumerate(ranks)))
        if place + 1 < depth:
            heapq.heappush(heap, (cost - float(scores[place + 1, likeliest[place + 1][0]]), (*ranks, 0)))
        if rank + 1 < len(likeliest[place]):
            less = float(scores[place, likeliest[place][rank]] - scores[place, likeliest[place][rank + 1]])
            heapq.heappush(heap, (cost + less, (*ranks[:-1], rank + 1)))
    return paths


@pytest.mark.parametrize("seed", nightly_but(range(8), range(100)))
def test_the_best_tree_is_a_heaps(seed: int) -> None:
    chooser, generator = random.Random(seed), torch.Generator().manual_seed(seed)
    depth, vocabulary, nodes = chooser.randint(1, 15), chooser.choice([3, 20]), chooser.choice([1, 2, 7, 32, 64])
    logits = torch.randn(2, depth, vocabulary, generator=generator, dtype=torch.float64) * chooser.choice([1, 3, 10])
    rooms = [chooser.randint(0, 70), chooser.randint(0, 10)]
    made = best_first(logits, torch.tensor(rooms), nodes)
    width = made.shape[1] // 2
    for row, room in enumerate(rooms):
        tokens, parents, length = made[row, :width].tolist(), made[row, width:-1].tolist(), int(made[row, -1])
        paths: dict[int, tuple[int, ...]] = {-1: ()}
        for index in range(length):
            paths[index] = (*paths[parents[index]], tokens[index])
        assert [paths[index] for index in range(length)] == naive_tree(logits[row].log_softmax(-1), room, nodes)


def test_logits_that_are_no_numbers_make_no_tokens() -> None:
    logits = torch.zeros(1, 3, 5)
    logits[0, 1] = float("nan")
    made = best_first(logits, torch.tensor([9]), 6)
    assert int(made[0, -1]) == 5 and made[0, 6:11].tolist() == [-1] * 5  # of the first place alone
