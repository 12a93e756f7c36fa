"""Rejection over trees keeps the target's distribution: every outcome is visited, and two dictionaries are equal."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.building import decode_with, table_target
from support.sampled import AT_ONE, EXACT, distribution_error, random_q
from support.thorough import nightly_but

from orthrus import Sampling, Stop
from orthrus.testing import TableTarget
from orthrus.testing.doubles.trees import DrawingTrees
from orthrus.testing.profiles import fewer
from orthrus.testing.strategies import prompts, samplings, stops, tables
from orthrus_caches.dynamic import DynamicCache
from orthrus_drafters.none import NoDrafter
from orthrus_verifiers.rejection import Rejection

FORK, BUSH = [-1, -1], [-1, -1, 0]
CASES: dict[str, tuple[Callable[[], DrawingTrees], int, list[list[int]], Stop]] = {
    "siblings drawn alike": (lambda: DrawingTrees(random_q(1, 3), FORK), 3, [[0]], Stop(3)),
    "siblings that differ": (lambda: DrawingTrees(random_q(2, 3), FORK, replaced=False), 3, [[0]], Stop(3)),
    "of less than all": (lambda: DrawingTrees(random_q(3, 3, zeros=True), BUSH, replaced=False), 3, [[0]], Stop(3)),
    "chosen": (lambda: DrawingTrees(random_q(4, 3), [-1, -1, 0, 1], chosen=True), 3, [[0]], Stop(4)),
    "a bush": (lambda: DrawingTrees(random_q(5, 2), BUSH), 2, [[0]], Stop(4)),
    "two rows": (lambda: DrawingTrees(random_q(6, 2), FORK), 2, [[0], [1, 0]], Stop(3)),
    "a stop token on a branch": (lambda: DrawingTrees(random_q(7, 3), BUSH), 3, [[0]], Stop(3, 1, frozenset({1}))),
}

SOME = ["of less than all", "chosen", "a bush", "a stop token on a branch"]


@pytest.mark.parametrize("name", nightly_but(["siblings that differ"], CASES, thorough=SOME))
def test_the_distribution_is_the_targets(name: str) -> None:
    drafter, size, texts, stop = CASES[name]
    target = table_target(11, alphabet="abc"[:size])
    assert distribution_error(target, drafter, Rejection(), texts, stop, AT_ONE) < EXACT


@fewer(12)
@given(
    target=tables(3, cache=DynamicCache),
    q=st.integers(0, 50),
    zeros=st.booleans(),
    replaced=st.booleans(),
    chosen=st.booleans(),
    shape=st.sampled_from([[-1], FORK, BUSH, [-1, 0]]),
    prompt=prompts(3, longest=4),
    stop=stops(3, 3, tokens=1),
    sampling=samplings(3, temperatures=(0.0, 0.5, 1.0)),
)
def test_under_any_settings(
    target: TableTarget,
    q: int,
    zeros: bool,
    replaced: bool,
    chosen: bool,
    shape: list[int],
    prompt: list[int],
    stop: Stop,
    sampling: Sampling,
) -> None:
    def drafter() -> DrawingTrees:
        return DrawingTrees(random_q(q, 3, zeros), shape, replaced=replaced, chosen=chosen)

    assert distribution_error(target, drafter, Rejection(), [prompt], stop, sampling) < EXACT


def test_of_branches_that_follow_the_target_one_is_always_accepted() -> None:
    target = table_target(1, alphabet="abc", order=1)
    certain = torch.full((3, 3), 1 / 3, dtype=torch.float64)  # all three tokens are among the siblings
    drafter = DrawingTrees(certain, [-1, -1, -1], replaced=False)
    results = decode_with(target, drafter, [[0], [1]], Stop(19), verifier=Rejection(), sampling=AT_ONE)
    assert all(min(result.measures.accepted_per_cycle[:-1]) == 1 for result in results)


def test_at_temperature_zero_it_is_consensus() -> None:
    target = table_target(4)
    plain = decode_with(target, NoDrafter(), [[0], [1]], Stop(20))
    drafter = DrawingTrees(random_q(1, 4), [-1, 0, -1, 2, 0])
    drafted = decode_with(target, drafter, [[0], [1]], Stop(20), verifier=Rejection())
    assert [result.token_ids for result in drafted] == [result.token_ids for result in plain]
