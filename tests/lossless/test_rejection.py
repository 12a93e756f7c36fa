"""Rejection keeps the target's distribution: every outcome of chance is visited, and two dictionaries are equal."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.building import decode_with, table_target
from support.sampled import AT_ONE, EXACT, ChosenDrafter, DrawingDrafter, distribution_error, random_q
from support.thorough import thorough_but

from orthrus import Chance, Drafter, Sampling, Stop
from orthrus.testing import EveryOutcome, TableTarget, distribution
from orthrus.testing.profiles import fewer
from orthrus.testing.strategies import prompts, samplings, stops, tables
from orthrus_caches.dynamic import DynamicCache
from orthrus_drafters.none import NoDrafter
from orthrus_verifiers.rejection import Rejection

A, B, C = [[0]], [[0], [1, 0]], [[1], [0, 1], [0]]


CASES: dict[str, tuple[Callable[[], Drafter], int, list[list[int]], Stop, int | None]] = {
    "no drafts": (NoDrafter, 3, B, Stop(2), None),
    "drawn": (lambda: DrawingDrafter(random_q(1, 3), 2), 3, A, Stop(3), None),
    "drawn from less than all": (lambda: DrawingDrafter(random_q(2, 3, zeros=True), 2), 3, A, Stop(3), None),
    "chosen": (lambda: ChosenDrafter(random_q(3, 3), 2), 3, A, Stop(4), None),
    "more than there is room for": (lambda: DrawingDrafter(random_q(4, 2), 3), 2, A, Stop(3), None),
    "two rows, ragged": (lambda: DrawingDrafter(random_q(5, 2), 2, ragged=True), 2, B, Stop(3), None),
    "a refill": (lambda: DrawingDrafter(random_q(6, 2), 1), 2, C, Stop(2), 2),
    "a stop token in the draft": (lambda: DrawingDrafter(random_q(7, 3), 2), 3, A, Stop(3, 1, frozenset({1})), None),
    "a stop string": (lambda: DrawingDrafter(random_q(8, 2), 2), 2, A, Stop(4, 0, frozenset(), ("ab",)), None),
}


SLOW = [
    "chosen",
    "a refill",
    "two rows, ragged",
    "drawn",
    "a stop token in the draft",
]  # the kit has all for every verifier


@pytest.mark.parametrize("name", thorough_but([name for name in CASES if name not in SLOW], CASES))
def test_the_distribution_is_the_targets(name: str) -> None:
    drafter, size, prompts, stop, batch = CASES[name]
    target = table_target(11, alphabet="abc"[:size])
    assert distribution_error(target, drafter, Rejection(), prompts, stop, AT_ONE, batch) < EXACT


@fewer(2)
@given(
    target=tables(3, cache=DynamicCache),
    q=st.integers(0, 50),
    zeros=st.booleans(),
    kind=st.sampled_from([DrawingDrafter, ChosenDrafter]),
    length=st.integers(0, 2),
    prompt=prompts(3, longest=4),
    stop=stops(3, 3, tokens=1),
    sampling=samplings(3, temperatures=(0.0, 0.5, 1.0)),
)
def test_under_any_settings(
    target: TableTarget,
    q: int,
    zeros: bool,
    kind: Callable[..., Drafter],
    length: int,
    prompt: list[int],
    stop: Stop,
    sampling: Sampling,
) -> None:
    error = distribution_error(
        target, lambda: kind(random_q(q, 3, zeros), length), Rejection(), [prompt], stop, sampling
    )
    assert error < EXACT


def test_a_draft_from_the_targets_own_distribution_is_accepted_whole() -> None:
    target = table_target(1, alphabet="abc", order=1)
    own = torch.stack([target.logits([token], 1)[0] for token in range(3)]).softmax(-1)
    results = decode_with(target, DrawingDrafter(own, 3), [[0], [1]], Stop(25), verifier=Rejection(), sampling=AT_ONE)
    assert [result.measures.accepted_per_cycle for result in results] == [(3,) * 6] * 2


def test_at_temperature_zero_it_is_consensus() -> None:
    target, drafter = table_target(4), DrawingDrafter(random_q(1, 4), 3)
    plain = decode_with(target, NoDrafter(), [[0], [1]], Stop(20))
    drafted = decode_with(target, drafter, [[0], [1]], Stop(20), verifier=Rejection())
    assert [result.token_ids for result in drafted] == [result.token_ids for result in plain]


def test_every_outcome_is_visited_once() -> None:
    def two_draws(chance: Chance) -> tuple[int, int]:
        first = int(chance.categorical(torch.tensor([0.5, 0.0, 0.5])))
        return first, int(chance.categorical(torch.tensor([0.25, 0.75]))) if first else -1

    assert distribution(two_draws) == {(0, -1): 0.5, (2, 0): 0.125, (2, 1): 0.375}


@pytest.mark.parametrize("wrong", [[0.0, 0.0], [-0.5, 1.5], [float("nan"), 1.0], [float("inf"), 1.0]])
def test_what_is_no_distribution_is_refused(wrong: list[float]) -> None:
    with pytest.raises(ValueError, match="are no probabilities"):
        EveryOutcome().categorical(torch.tensor(wrong))


def test_noise_is_not_enumerated() -> None:
    with pytest.raises(TypeError, match="noise cannot be enumerated"):
        EveryOutcome().gumbel(torch.zeros(1), torch.zeros(1, 1), 2)
