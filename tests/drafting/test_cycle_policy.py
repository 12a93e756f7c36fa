"""The choice of passes a cycle: soon the better way, another one when that changes, and little lost to trials."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from orthrus.drafting.cycle_policy import BEFORE_TRIAL, TRIAL, CyclePolicy, Way
from orthrus.drafting.probing import FIRST_BACKOFF, LONGEST_BACKOFF
from orthrus.testing.profiles import fewer

ONE, TWO = Way.ONE_PASS, Way.TWO_PASSES
DRAFTS = {ONE: 5, TWO: 15}
Tokens = Callable[[int, Way], float]  # of a cycle of a number whose draft was made in a way


@dataclass
class Outcome:
    """What simulated cycles took and brought, and how each was made."""

    seconds: float = 0.0
    tokens: float = 0.0
    ways: list[Way] = field(default_factory=list)

    @property
    def rate(self) -> float:
        return self.tokens / self.seconds


def simulate(costs: Callable[[int], Mapping[Way, float]], tokens: Tokens, cycles: int) -> Outcome:
    """Run the policy as decoding does: one-pass cycles begin with a draft that has a pass and tells nothing."""
    policy, outcome, way, launched = CyclePolicy(), Outcome(), TWO, TWO
    for cycle in range(cycles):
        following = policy.decide(costs(cycle))
        brought = tokens(cycle, launched)
        first = way is ONE and launched is TWO
        if first:
            outcome.seconds += costs(cycle)[TWO] / 2
        else:
            policy.observe(way, brought)
        outcome.seconds += costs(cycle)[way]
        outcome.tokens += brought
        outcome.ways.append(way)
        launched, way = way, following
    return outcome


def drawn(chances: Mapping[Way, float], seed: int) -> Tokens:
    """Return tokens of drafts each of whose tokens is right with the chance of its way."""
    chance = random.Random(seed)

    def tokens(cycle: int, way: Way) -> float:
        accepted = 0
        while accepted < DRAFTS[way] and chance.random() < chances[way]:
            accepted += 1
        return 1.0 + accepted

    return tokens


def mean_tokens(way: Way, chance: float) -> float:
    return sum(chance**place for place in range(DRAFTS[way] + 1))


def always(costs: Mapping[Way, float]) -> Callable[[int], Mapping[Way, float]]:
    return lambda cycle: costs


def share(ways: Sequence[Way], way: Way) -> float:
    return ways.count(way) / len(ways)


COSTS = st.floats(0.45, 1.2)  # of a cycle of one pass; one of two takes 1
CHANCES = st.floats(0.0, 0.95)


@fewer(12)
@given(cost=COSTS, one=CHANCES, two=CHANCES, seed=st.integers(0, 2**16))
def test_the_better_way_is_soon_taken(cost: float, one: float, two: float, seed: int) -> None:
    costs, chances = {ONE: cost, TWO: 1.0}, {ONE: one, TWO: two}
    rates = {way: mean_tokens(way, chances[way]) / costs[way] for way in Way}
    better = max(Way, key=lambda way: rates[way])
    assume(rates[better] > 1.4 * rates[better.other])
    outcome = simulate(always(costs), drawn(chances, seed), 1500)
    assert share(outcome.ways[500:], better) > 0.8


@fewer(16)
@given(cost=COSTS, one=CHANCES, two=CHANCES, seed=st.integers(0, 2**16))
def test_little_is_lost_to_the_better_way(cost: float, one: float, two: float, seed: int) -> None:
    """However close they are: where they can hardly be told apart, little is lost by taking the wrong one."""
    costs, chances = {ONE: cost, TWO: 1.0}, {ONE: one, TWO: two}
    best = max(mean_tokens(way, chances[way]) / costs[way] for way in Way)
    assert simulate(always(costs), drawn(chances, seed), 6000).rate > 0.93 * best


@fewer(25)
@given(cost=COSTS, one=st.floats(1, 6), two=st.floats(1, 16))
def test_what_trials_lose_is_bounded(cost: float, one: float, two: float) -> None:
    """Of the cycles' time no more than what every so many cycles may lose, once the rests have grown."""
    costs, tokens = {ONE: cost, TWO: 1.0}, {ONE: one, TWO: two}
    best = max(tokens[way] / costs[way] for way in Way)
    outcome = simulate(always(costs), lambda cycle, way: tokens[way], 4000)
    lost = outcome.seconds - outcome.tokens / best  # seconds more than the better way alone
    usual = max(costs.values())
    allowed = (4000 / LONGEST_BACKOFF + 4000 / FIRST_BACKOFF / 16) * usual
    assert lost <= allowed + 4 * (BEFORE_TRIAL + TRIAL) * usual


@fewer(12)
@given(seed=st.integers(0, 2**16), first=st.sampled_from(Way))
def test_it_changes_its_mind_when_what_is_accepted_changes(seed: int, first: Way) -> None:
    costs, good, poor = {ONE: 0.65, TWO: 1.0}, 0.85, 0.3
    before = drawn({first: good, first.other: poor}, seed)
    after = drawn({first: poor, first.other: good}, seed)
    outcome = simulate(always(costs), lambda cycle, way: (before if cycle < 1000 else after)(cycle, way), 3000)
    assert share(outcome.ways[500:1000], first) > 0.8
    assert share(outcome.ways[2000:], first.other) > 0.8


@pytest.mark.parametrize("first", Way)
def test_it_changes_its_mind_at_once_when_costs_change(first: Way) -> None:
    """As where a text outgrows what passes of one kind take lightly: what is accepted is known by then."""
    tokens = {ONE: 3.0, TWO: 4.0}
    cheap, dear = {ONE: 0.6, TWO: 1.0}, {ONE: 0.9, TWO: 1.0}
    before, after = (cheap, dear) if first is ONE else (dear, cheap)
    outcome = simulate(lambda cycle: before if cycle < 400 else after, lambda cycle, way: tokens[way], 500)
    assert share(outcome.ways[200:400], first) > 0.8
    assert share(outcome.ways[402:425], first.other) > 0.5
    assert share(outcome.ways[402:], first.other) > 0.7


def test_a_hopeless_trial_is_short_and_begins_late() -> None:
    outcome = simulate(always({ONE: 0.9, TWO: 1.0}), lambda cycle, way: 10.0 if way is TWO else 1.0, 60)
    assert set(outcome.ways[:BEFORE_TRIAL]) == {TWO}
    assert 0 < outcome.ways.count(ONE) <= TRIAL // 2
