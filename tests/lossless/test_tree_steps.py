"""What steps tell of trees, and how a tree fits where an answer ends."""

from __future__ import annotations

import functools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.building import assert_held, decode_with, family_oracle, table_target, target_oracle
from support.families import VOCABULARY
from support.recordings import recording_target
from support.thorough import thorough_but
from support.views import random_view

from orthrus import Chance, Context, Draft, DraftError, Sampling, Session, Step, Stop
from orthrus.chance import request_key
from orthrus.testing.doubles.trees import ScriptedTrees
from orthrus.testing.profiles import fewer
from orthrus.testing.strategies import batches, stops
from orthrus_diffusion.drafter import LAST_SIZES, Diffusion
from orthrus_transformers.target import TransformersTarget
from orthrus_verifiers.consensus import Consensus

MASK = VOCABULARY - 1


class Reading(ScriptedTrees):
    """Read the trees of steps."""

    reads_trees = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.steps: list[Step] = []
        self.proposed: list[Draft] = []

    def propose(self, context: Context, chance: Chance) -> Draft:
        self.proposed.append(draft := super().propose(context, chance))
        return draft

    def observe(self, step: Step) -> None:
        self.steps.append(step)


@fewer(8)
@given(
    prompts=batches(4, longest=6, rows=4),
    stop=stops(4, 12, tokens=1, strings=1),
    right=st.sampled_from([0.0, 0.5, 0.9]),
    seed=st.integers(0, 99),
    shown=st.booleans(),
)
def test_steps_tell_which_tokens_of_a_tree_were_kept(
    prompts: list[list[int]], stop: Stop, right: float, seed: int, shown: bool
) -> None:
    target = table_target(seed)
    answers = [target_oracle(target)(prompt, stop).token_ids for prompt in prompts]
    texts = {request_key(str(index)): tuple(answer) for index, answer in enumerate(answers)}
    drafter = Reading(texts, 4, seed, right)
    session = Session(target, drafter, Consensus(), stop=stop, sampling=Sampling(), batch=3)
    for index, prompt in enumerate(prompts):
        session.add(prompt, id=str(index), drafts=shown)
    list(session)
    for step, draft in zip(drafter.steps, drafter.proposed, strict=True):
        if not draft.tokens.shape[1]:
            assert step.trees is None
            continue
        assert step.trees is not None and draft.parents is not None
        for row, tree in enumerate(step.trees):
            length = int(draft.lengths[row])
            assert tree.parents == tuple(draft.parents[row, :length].tolist())
            assert len(tree.kept) == step.accepted[row] or not step.committed[row]
            tokens = [int(draft.tokens[row, token]) for token in tree.kept]
            assert tuple(tokens[: len(step.committed[row])]) == step.committed[row][: len(tokens)]
            assert [tree.parents[token] for token in tree.kept] == [-1, *tree.kept][: len(tree.kept)]


def test_nobody_reads_trees_who_does_not_ask() -> None:
    drafter = Reading({}, 4, sizes=(4,))
    drafter.reads_trees = False
    decode_with(table_target(), drafter, [[1, 2]], Stop(20))
    assert drafter.proposed and all(step.trees is None for step in drafter.steps)


@functools.cache
def target_of() -> TransformersTarget:
    target = recording_target(chunk=5)
    random_view(target, "nearly copied", noise=0.02)
    return target


class Watched(Diffusion):
    """Note how wide drafts are, which were launched ahead, and whether what was known then bounds what came."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.widths: list[int] = []
        self.early: list[bool] = []
        self.bounds = (0, 0, 0)

    def propose(self, context: Context, chance: Chance) -> Draft:
        if self.launched:
            longest, most, least = self.bounds
            assert context.longest <= longest and context.max_room <= most
            assert min(row.room for row in context.rows if row.room) >= least
        self.early.append(self.launched)
        draft = super().propose(context, chance)
        self.widths.append(draft.tokens.shape[1])
        return draft

    def ahead(self, context: Context, chance: Chance) -> bool:
        self.bounds = context.longest, context.max_room, context.min_room
        return super().ahead(context, chance)


@pytest.mark.parametrize(("early", "batch"), thorough_but([(True, 1)], [(True, 1), (False, 1), (True, 2)]))
def test_where_an_answer_ends_trees_have_one_of_few_sizes_and_are_still_launched_ahead(early: bool, batch: int) -> None:
    """Each size is a graph of its own; and a cycle commits no more tokens than a tree is deep, and one."""
    drafter = Watched(target_of(), 6, MASK, "nearly copied", tree=40, early=early)
    prompts, stop = [[1, 2, 3], [4] * 9], Stop(80)
    results = decode_with(target_of(), drafter, prompts, stop, batch=batch)
    assert_held(results, family_oracle("llama"), prompts, stop)
    assert set(drafter.widths) <= {40, *LAST_SIZES, *range(LAST_SIZES[0])}
    assert len(set(drafter.widths)) > 2
    if early:
        assert drafter.early.count(True) > 2 * drafter.early.count(False) > 0


class Deeper(ScriptedTrees):
    """Say that trees are less deep than they are."""

    def propose(self, context: Context, chance: Chance) -> Draft:
        draft = super().propose(context, chance)
        return Draft(draft.tokens, draft.lengths, parents=draft.parents, depth=1)


def test_a_tree_that_is_deeper_than_it_was_said_is_an_error() -> None:
    target = table_target()
    text = target_oracle(target)([1, 2], Stop(20)).token_ids
    drafter = Deeper({request_key("0"): text}, 4, right=1.0, sizes=(9,))
    with pytest.raises(DraftError, match=r"said that its tree is 1 tokens deep, and of row 0 \d were accepted"):
        decode_with(target, drafter, [[1, 2]], Stop(20))
