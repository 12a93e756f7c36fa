"""Views with successor heads: the text is the oracle's whatever a head says, and drafts are what they claim to be."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.building import assert_held, decode_with, family_oracle
from support.families import VOCABULARY
from support.successors import random_head
from support.view_targets import ENGINES, view_target
from support.views import committed

from orthrus import Chance, Context, Sampling, Stop
from orthrus.batch.row_settings import RowSettings
from orthrus.testing.profiles import fewer
from orthrus.testing.strategies import batches, stops
from orthrus_diffusion.chain import draw_chain
from orthrus_diffusion.drafter import Diffusion
from orthrus_transformers.target import TransformersTarget
from orthrus_verifiers.coupled import Coupled
from orthrus_verifiers.rejection import Rejection

MASK = VOCABULARY - 1


@fewer(50)  # a model's passes, and its oracle's for every token
@given(
    prompts=batches(VOCABULARY, longest=14, rows=4),
    stop=stops(VOCABULARY),
    engine=st.sampled_from(ENGINES),
    size=st.sampled_from([0.0, 0.05, 2.0]),
    block=st.integers(2, 17),
    nodes=st.sampled_from([None, 2, 13, 40]),
    temperature=st.sampled_from([0.0, 0.7]),
    batch=st.integers(1, 4),
)
def test_the_text_is_the_oracles(
    prompts: list[list[int]],
    stop: Stop,
    engine: str,
    size: float,
    block: int,
    nodes: int | None,
    temperature: float,
    batch: int,
) -> None:
    target, sampling = view_target(engine), Sampling(temperature)
    drafter = Diffusion(target, block, MASK, "noisy", tree=nodes, successor=random_head(target, "noisy", size))
    results = decode_with(target, drafter, prompts, stop, 1, batch, Coupled(), sampling)
    if temperature == 0:
        assert_held(results, family_oracle("llama"), prompts, stop)
        return
    plain = Diffusion(target, block, MASK, "noisy")
    again = decode_with(target, plain, prompts, stop, 1, len(prompts), Coupled(), sampling)
    assert [result.token_ids for result in results] == [result.token_ids for result in again]


@pytest.mark.parametrize("size", [math.nan, math.inf])
@pytest.mark.parametrize("temperature", [0.0, 0.7])
@pytest.mark.parametrize("nodes", [None, 9])
def test_a_head_that_is_no_numbers_costs_drafts_alone(size: float, temperature: float, nodes: int | None) -> None:
    target, sampling, prompts, stop = view_target("static"), Sampling(temperature), [[1, 2, 3], [4]], Stop(10)
    results = []
    for head in (random_head(target, "noisy", size), None):
        drafter = Diffusion(target, 6, MASK, "noisy", tree=nodes, successor=head)
        results.append(decode_with(target, drafter, prompts, stop, 1, 2, Coupled(), sampling))
    assert [result.token_ids for result in results[0]] == [result.token_ids for result in results[1]]
    if temperature == 0:
        assert_held(results[0], family_oracle("llama"), prompts, stop)


def drawing(target: TransformersTarget, temperature: float, seed: int) -> Context:
    """Return a context of two rows that are drawn, one of which has less room than a block."""
    return committed(target, [[1 + seed, 2, 3], [2] * 90], room=12, sampling=Sampling(temperature))


@pytest.mark.parametrize("nodes", [None, 9])
@pytest.mark.parametrize("temperature", [0.0, 0.9])
def test_a_head_that_corrects_nothing_drafts_what_none_does(nodes: int | None, temperature: float) -> None:
    target = view_target("static")
    drafts = []
    for head in (None, random_head(target, "noisy", 0.0)):
        context = drawing(target, temperature, 3)
        drafts.append(
            Diffusion(target, 7, MASK, "noisy", tree=nodes, successor=head).propose(context, Chance(3, context.device))
        )
    for row, length in enumerate(drafts[0].lengths.tolist()):
        assert drafts[0].tokens[row, :length].tolist() == drafts[1].tokens[row, :length].tolist()
    assert drafts[0].lengths.tolist() == drafts[1].lengths.tolist()


@fewer(20)
@given(seed=st.integers(0, 20), temperature=st.sampled_from([0.5, 1.0, 3.0]))
def test_drawn_drafts_come_from_what_they_say(seed: int, temperature: float) -> None:
    """Each token is the choice that the noise makes of its own probabilities, so it is drawn from these."""
    target = view_target("static")
    context, chance = drawing(target, temperature, seed), Chance(seed, torch.device("cpu"))
    draft = Diffusion(target, 7, MASK, "noisy", successor=random_head(target, "noisy", 2.0, seed)).propose(
        context, chance
    )
    assert draft.probabilities is not None
    torch.testing.assert_close(draft.probabilities.sum(-1), torch.ones_like(draft.probabilities[..., 0]))
    noise = chance.gumbel(context.keys, context.positions(draft.tokens.shape[1]), VOCABULARY)
    chosen = (draft.probabilities.log() + noise).argmax(-1)
    for row, length in enumerate(draft.lengths.tolist()):
        assert chosen[row, :length].tolist() == draft.tokens[row, :length].tolist()


def test_of_equal_scores_a_greedy_row_beside_a_drawn_one_says_what_it_drafted() -> None:
    target = view_target("static")
    context = drawing(target, 0.9, 0)
    context.rows[0].sampling = Sampling(0.0)
    context.settings = RowSettings.of(context.rows, VOCABULARY, context.device)
    assert context.settings.drawing is not None
    logits = torch.zeros(2, 2, VOCABULARY, dtype=torch.float64)
    logits[:, :, 5], logits[:, :, 3] = 4.0, 3.0  # token 5 stands first by the view
    transitions = torch.zeros(2, 2, 4, 4, dtype=torch.float64)
    transitions[..., 1] = 1.0  # and token 3 is as likely after every token
    draft = draw_chain(context, Chance(3, context.device), logits, transitions, torch.tensor([2, 2]))
    assert draft.probabilities is not None and draft.tokens[0].tolist() == [5, 5]
    assert draft.probabilities[0].gather(-1, draft.tokens[0, :, None]).tolist() == [[1.0], [1.0]]
    torch.testing.assert_close(draft.probabilities.sum(-1), torch.ones(2, 2, dtype=torch.float64))
    assert float(draft.probabilities[1].max()) < 1


@pytest.mark.parametrize("nodes", [None, 12])
def test_rejection_takes_them(nodes: int | None) -> None:
    target, sampling = view_target("static"), Sampling(0.8)
    drafter = Diffusion(target, 6, MASK, "noisy", tree=nodes, successor=random_head(target, "noisy", 0.05))
    results = decode_with(target, drafter, [[1, 2, 3], [4]], Stop(12), 1, 2, Rejection(), sampling)
    assert all(len(result.token_ids) == 12 for result in results)
