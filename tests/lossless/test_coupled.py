"""Coupled sampling keeps the sample: the same seed gives the oracle's text, whatever drafts, and in whatever batch."""

from __future__ import annotations

import functools
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.building import decode_with, fused_target, table_target, transformers_target
from support.drafters import ScriptedDrafter
from support.families import VOCABULARY
from support.recordings import recording_target
from support.sampled import (
    AT_ONE,
    ChosenDrafter,
    DrawingDrafter,
    NoisyDrafter,
    coupled_answers,
    decoded,
    greedy_answers,
    random_q,
)
from support.thorough import thorough_but

from orthrus import Drafter, Sampling, Stop, Target
from orthrus.testing import OracleAnswer, TableTarget
from orthrus.testing.profiles import fewer
from orthrus.testing.strategies import batches, samplings, stops, tables
from orthrus_caches.dynamic import DynamicCache
from orthrus_diffusion.drafter import Diffusion
from orthrus_drafters.none import NoDrafter
from orthrus_drafters.prompt_lookup import PromptLookup
from orthrus_verifiers.consensus import Consensus
from orthrus_verifiers.coupled import Coupled

KINDS = ["none", "scripted", "drawn", "chosen", "noisy", "prompt lookup"]
WARM = Sampling(temperature=0.8)


def make_drafter(kind: str, truths: list[OracleAnswer], vocabulary: int, seed: int) -> Drafter:
    known = [answer.token_ids for answer in truths]
    q = random_q(seed, vocabulary)
    return {
        "none": NoDrafter(),
        "scripted": ScriptedDrafter(known, vocabulary, 0.8, [0, 1, 2, 5], seed),
        "drawn": DrawingDrafter(q, 3, ragged=True),
        "chosen": ChosenDrafter(q, 2),
        "noisy": NoisyDrafter(q, 4),
        "prompt lookup": PromptLookup(2, 1, 4),
    }[kind]


@fewer(4)
@given(
    target=tables(4, cache=DynamicCache),
    prompts=batches(4, longest=6, rows=6),
    stop=stops(4, 10, tokens=1, strings=1),
    sampling=samplings(4, temperatures=(0.0, 0.5, 1.0)),
    kind=st.sampled_from(KINDS),
    seed=st.integers(0, 2**63 - 1),
    batch=st.integers(1, 5),
)
def test_tables(
    target: TableTarget, prompts: list[list[int]], stop: Stop, sampling: Sampling, kind: str, seed: int, batch: int
) -> None:
    ids = [str(index) for index in range(len(prompts))]
    if sampling.temperature == 0:
        wanted = greedy_answers(target, prompts, stop, sampling)
    else:
        wanted = coupled_answers(target, prompts, stop, sampling, seed, ids)
    for verifier in (Coupled(), Consensus())[: 1 + (sampling.temperature == 0)]:
        drafter = make_drafter(kind, wanted, 4, seed % 1000)
        assert decoded(target, drafter, verifier, prompts, stop, sampling, seed, batch) == wanted


model = functools.cache(transformers_target)
ENGINES: dict[str, Callable[[], Target]] = {
    "own layers": model,
    "fused": functools.cache(fused_target),
    "recorded": functools.cache(recording_target),
}


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("kind", thorough_but(["scripted"], ["none", "scripted", "prompt lookup"]))
def test_a_model(kind: str, engine: str) -> None:
    prompts, stop = [[1, 2, 3], [7], [4, 5, 4, 5, 4], [2, 2]], Stop(12)
    sampling = Sampling(temperature=0.7, top_p=0.9, repetition_penalty=1.2)
    wanted = coupled_answers(model(), prompts, stop, sampling, 5, ["0", "1", "2", "3"])
    for batch in (1, 3):
        drafter = make_drafter(kind, wanted, VOCABULARY, 1)
        assert decoded(ENGINES[engine](), drafter, Coupled(), prompts, stop, sampling, 5, batch) == wanted


@pytest.mark.parametrize("block", [2, 5])
def test_a_view_that_draws_with_the_same_noise(block: int) -> None:
    target = transformers_target()
    target.attach_view("copy")
    prompts, stop = [[1, 2, 3], [7]], Stop(12)
    wanted = coupled_answers(target, prompts, stop, WARM, 3, ["0", "1"])
    drafter = Diffusion(target, block, 0, "copy")
    assert decoded(target, drafter, Coupled(), prompts, stop, WARM, 3) == wanted


def test_the_text_belongs_to_the_id_and_not_to_the_place() -> None:
    target, stop = table_target(2), Stop(30)
    together = decoded(target, NoDrafter(), Coupled(), [[0], [0], [0]], stop, WARM, ids=["x", "y", "x"])
    alone = decoded(target, PromptLookup(2, 1, 4), Coupled(), [[0]], stop, WARM, ids=["y"])
    assert together[1] == alone[0]
    assert together[0] == together[2] != together[1]
    assert decoded(target, NoDrafter(), Coupled(), [[0]], stop, WARM, seed=1, ids=["x"])[0] != together[0]


def test_the_same_noise_is_accepted_more_often_than_noise_of_its_own() -> None:
    # Under coupled sampling a poor drafter costs time only: that shared noise helps needs a test of its own.
    target = table_target(1, alphabet="abc", order=1)
    own = torch.stack([target.logits([token], 1)[0] for token in range(3)]).softmax(-1)
    near = 0.8 * own + 0.2 * random_q(0, 3)

    def accepted(drafter: Drafter) -> list[int]:
        results = decode_with(target, drafter, [[0]] * 40, Stop(40), verifier=Coupled(), sampling=AT_ONE)
        return [count for result in results for count in result.measures.accepted_per_cycle[:-1]]

    assert sum(accepted(NoisyDrafter(near, 1))) > 1.3 * sum(accepted(DrawingDrafter(near, 1)))
    assert set(accepted(NoisyDrafter(own, 1))) == {1}
