"""Whatever chain or tree `auto` chooses, the text is the oracle's; steps tell of trees; measuring leaves no trace."""

from __future__ import annotations

import functools
import itertools
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st
from support.building import assert_held, buffers_of, decode_with, family_oracle
from support.families import VOCABULARY, tiny_model
from support.own_cache import use_own_cache
from support.recordings import recording_target
from support.settings import set_rows
from support.successors import random_head
from support.thorough import thorough_but
from support.views import committed, random_view
from torch import Tensor

import orthrus
from orthrus import Chance, Context, Draft, DraftShape, Sampling, Step, Stop
from orthrus.drafting.tree_policy import TreePolicy
from orthrus.testing.profiles import fewer
from orthrus.testing.strategies import batches, stops
from orthrus_attention.sdpa import SdpaAttention
from orthrus_caches.dynamic import DynamicCache
from orthrus_caches.static import StaticCache
from orthrus_cascade.drafter import Cascade
from orthrus_diffusion.drafter import Diffusion
from orthrus_drafters.none import NoDrafter
from orthrus_drafters.prompt_lookup import PromptLookup
from orthrus_transformers.target import TransformersTarget
from orthrus_verifiers.coupled import Coupled

MASK = VOCABULARY - 1


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_own_cache(monkeypatch, tmp_path)


@functools.cache
def target_of(kind: str) -> TransformersTarget:
    if kind == "recorded":
        target = recording_target(chunk=5)
    else:
        cache = StaticCache(slots=8) if kind == "static" else DynamicCache()  # it has to grow meanwhile
        target = TransformersTarget(tiny_model(), None, cache, SdpaAttention(), prefill_chunk=5)
    random_view(target, "nearly copied", noise=0.02)
    return target


def diffusion(kind: str, nodes: int = 15, block: int = 8, early: bool = False, headed: bool = False) -> Diffusion:
    head = random_head(target_of(kind), "nearly copied", 0.05) if headed else None
    return Diffusion(target_of(kind), block, MASK, "nearly copied", auto=True, tree=nodes, early=early, successor=head)


@pytest.mark.thorough
@given(
    prompts=batches(VOCABULARY, longest=14, rows=4),
    stop=stops(VOCABULARY, 24),
    batch=st.integers(1, 4),
    kind=st.sampled_from(["dynamic", "static", "recorded"]),
    nodes=st.integers(2, 40),
    temperature=st.sampled_from([0.0, 0.7]),
    headed=st.booleans(),
)
@fewer(25, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_any_rows_and_limits(
    prompts: list[list[int]], stop: Stop, batch: int, kind: str, nodes: int, temperature: float, headed: bool
) -> None:
    target, sampling = target_of(kind), Sampling(temperature)
    drafter = diffusion(kind, nodes, early=kind == "recorded", headed=headed)
    for _ in range(2):  # the second time it knows more
        results = decode_with(target, drafter, prompts, stop, 1, batch, Coupled(), sampling)
        if temperature == 0:
            assert_held(results, family_oracle(), prompts, stop)
            continue
        again = decode_with(target, NoDrafter(), prompts, stop, 1, len(prompts), Coupled(), sampling)
        assert [result.token_ids for result in results] == [result.token_ids for result in again]


@fewer(10)
@given(
    prompts=batches(VOCABULARY, longest=9, rows=3),
    sizes=st.tuples(st.integers(2, 40), st.integers(2, 40)).map(sorted),
    block=st.integers(2, 9),
    temperature=st.sampled_from([0.0, 0.7]),
    headed=st.booleans(),
)
def test_a_smaller_tree_is_the_beginning_of_a_larger_one_and_a_chain_its_first_children(
    prompts: list[list[int]], sizes: list[int], block: int, temperature: float, headed: bool
) -> None:
    """That is what makes it possible to count what each of them would keep."""
    target = target_of("dynamic")
    head = random_head(target, "nearly copied", 0.05) if headed else None
    context = committed(target, prompts, room=60)
    set_rows(context, sampling=Sampling(temperature))

    def draft(nodes: int | None) -> Draft:
        drafter = Diffusion(target, block, MASK, "nearly copied", tree=nodes, successor=head)
        return drafter.propose(context, Chance(3, context.device))

    small, large, chain = draft(sizes[0]), draft(sizes[1]), draft(None)
    assert small.parents is not None and large.parents is not None
    for row in range(len(prompts)):
        length = int(small.lengths[row])
        for part, whole in ((small.tokens, large.tokens), (small.parents, large.parents)):
            assert part[row, :length].tolist() == whole[row, :length].tolist()
        parents, token, tokens = large.parents[row, : int(large.lengths[row])].tolist(), -1, []
        while token in parents:
            token = parents.index(token)
            tokens.append(int(large.tokens[row, token]))
        assert tokens == chain.tokens[row, : len(tokens)].tolist()


CHAIN, TREE, NOTHING = DraftShape(7), DraftShape(7, 15), DraftShape(0)
ORDERS = [[TREE, CHAIN, NOTHING, DraftShape(3, 7), TREE], [TREE], [NOTHING, TREE, CHAIN]]


@pytest.mark.parametrize("order", thorough_but(ORDERS[:1], ORDERS), ids=str)
@pytest.mark.parametrize("early", thorough_but([True], [True, False]))
def test_any_sequence_of_shapes(order: list[DraftShape], early: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was chosen is what is drafted, also where it is launched a cycle before; and it is what is learned from."""
    shapes, chosen, taken, drafted, seen = itertools.cycle(order), [NOTHING], [], [], []

    def decide(self: TreePolicy, available: Any, chains: Sequence[float], trees: Sequence[float]) -> DraftShape:
        shape = next(shapes)
        chosen.append(shape if self.lengths[len(chains) - 1] >= shape.drafts and len(trees) == 2 else NOTHING)
        return chosen[-1]

    own_take, own_observe = TreePolicy.take, TreePolicy.observe

    def take(self: TreePolicy, shape: DraftShape, available: Any) -> None:
        taken.append(shape)
        own_take(self, shape, available)

    def observe(self: TreePolicy, accepted: Sequence[int], trees: Any) -> None:
        seen.append((taken[-1], trees is not None))
        own_observe(self, accepted, trees)

    monkeypatch.setattr(TreePolicy, "decide", decide)
    monkeypatch.setattr(TreePolicy, "take", take)
    monkeypatch.setattr(TreePolicy, "observe", observe)

    class Widths(Diffusion):
        def propose(self, context: Context, chance: Chance) -> Draft:
            draft = super().propose(context, chance)
            drafted.append((draft.tokens.shape[1], draft.parents is not None))
            return draft

    target = target_of("recorded")
    drafter = Widths(target, 8, MASK, "nearly copied", auto=True, tree=15, early=early)
    prompts, stop = [[1, 2, 3], [4, 5]], Stop(60)
    results = decode_with(target, drafter, prompts, stop, batch=1)
    assert_held(results, family_oracle("llama"), prompts, stop)
    wanted = {(shape.nodes or shape.drafts, shape.nodes > 0) for shape in chosen if shape.drafts}
    assert set(drafted) >= wanted
    assert {tree for _, tree in drafted} == {tree for _, tree in [*wanted, (0, False)]}
    assert max(drafted) == max(wanted)  # less than was chosen only where an answer ends
    assert all(tree is (shape.nodes > 0) for shape, tree in seen)  # of a tree it is told, of a chain not


@pytest.mark.parametrize("kind", thorough_but(["static"], ["static", "dynamic"]))
def test_measuring_leaves_what_is_committed(kind: str) -> None:
    cache = StaticCache(slots=8) if kind == "static" else DynamicCache()
    target = TransformersTarget(tiny_model(), None, cache, SdpaAttention())
    random_view(target, "nearly copied")
    context = committed(target, [[1, 2, 3], [7] * 20], room=60)

    def state() -> list[bytes]:
        lengths = context.lengths.tolist()
        held = [
            buffer[row, :, : length - 1].contiguous().numpy().tobytes()
            for kept in buffers_of(cache)
            for buffer in kept
            for row, length in enumerate(lengths)
        ]
        tensors = cache.lengths, context.tokens, context.room, context.lengths
        return [*held, *(tensor.numpy().tobytes() for tensor in tensors)]

    before, scored = state(), set()
    own = target.score

    def score(context: Context, draft: Draft) -> Tensor:
        scored.add((draft.tokens.shape[1], draft.parents is not None))
        return own(context, draft)

    target.score = score  # type: ignore[method-assign]  # this one is watched
    drafter = Diffusion(target, 16, MASK, "nearly copied", auto=True, tree=31)
    drafter.start(context, [0, 1])
    drafter.propose(context, Chance(0))
    chains, trees = [(size, False) for size in (0, 1, 3, 7, 15)], [(size, True) for size in (7, 15, 23, 31)]
    assert scored == {*chains, *trees}
    assert state() == before


CONFIGS: list[tuple[dict[str, Any], set[tuple[int, bool]]]] = [
    ({"block": "auto", "tree": "auto"}, {(0, False), (1, False), (3, False), (7, False), (7, True), (63, True)}),
    ({"block": 4, "tree": "auto"}, {(0, False), (1, False), (3, False), (7, True), (63, True)}),
    ({"block": "auto", "tree": 10}, {(0, False), (7, True), (10, True)}),
]


@pytest.mark.parametrize(("options", "shapes"), thorough_but(CONFIGS[:1], CONFIGS))
def test_a_config_says_auto(
    options: dict[str, Any], shapes: set[tuple[int, bool]], monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = {
        "target": {
            "name": "transformers",
            "source": "tests/data/tiny-orthrus-qwen3",
            "dtype": "float32",
            "device": "cpu",
        },
        "attention": {"name": "sdpa"},
        "cache": {"name": "dynamic"},
        "drafter": {"name": "diffusion", **options},
        "verifier": {"name": "consensus"},
        "stop": {"max_new_tokens": 64},
    }
    scored: set[tuple[int, bool]] = set()
    own = TransformersTarget.score

    def score(self: TransformersTarget, context: Context, draft: Draft) -> Tensor:
        scored.add((draft.tokens.shape[1], draft.parents is not None))
        return own(self, context, draft)

    monkeypatch.setattr(TransformersTarget, "score", score)
    prompt = [7, 10, 13, 16, 19, 22, 25, 28, 31]
    decoder = orthrus.load(recipe)
    [answer] = decoder.generate([prompt])
    assert scored >= shapes
    assert max(size for size, _ in scored) == max(size for size, _ in shapes if size)
    [plain] = orthrus.load(recipe, drafter="none").generate([prompt])
    assert answer.token_ids == plain.token_ids
    assert decoder.drafter.learns
    assert not orthrus.load(recipe, target=decoder.target, drafter={"block": 4, "tree": 8}).drafter.learns


@pytest.mark.thorough
def test_rows_come_and_go_under_it() -> None:
    target, chooser = target_of("static"), random.Random(0)
    prompts = [[chooser.randrange(VOCABULARY) for _ in range(chooser.randint(1, 9))] for _ in range(9)]
    results = decode_with(target, diffusion("static"), prompts, Stop(20), batch=3)
    assert_held(results, family_oracle(), prompts, Stop(20))
    assert sum(sum(result.measures.accepted_per_cycle) for result in results) > 0


@pytest.mark.thorough
def test_a_cascade_hands_on_which_tokens_of_a_tree_were_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TreePolicy, "decide", lambda *args: TREE)
    drafter = diffusion("static")
    cascade = Cascade([PromptLookup(3, 2, 4), drafter], "passes")
    assert cascade.reads_trees and not Cascade([PromptLookup(3, 2, 4)] * 2, "passes").reads_trees
    told: list[bool] = []
    own = drafter.observe

    def observe(step: Step) -> None:
        told.append(step.trees is not None)
        own(step)

    drafter.observe = observe  # type: ignore[method-assign]
    results = decode_with(target_of("static"), cascade, [[1, 2, 3], [4]], Stop(40), batch=2)
    assert_held(results, family_oracle(), [[1, 2, 3], [4]], Stop(40))
    assert any(told)
