"""The choice of a block's size: as quick as the best fixed size, and little lost to a drafter that is wrong."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from support.thorough import thorough_but

from orthrus.drafting.acceptance_rate import AcceptanceRate, expected_tokens
from orthrus.drafting.policy import DraftLengthPolicy, draft_sizes
from orthrus.testing.profiles import fewer

SIZES = draft_sizes(31)
COSTS = {  # seconds by size, in plain cycles: as passes cost where reading weights is all, and where arithmetic is
    "free passes": (1, 1.02, 1.03, 1.05, 1.08, 1.15),
    "a drafting pass that costs as much": (1, 2, 2, 2.05, 2.1, 2.2),
    "two cores": (1, 1.1, 1.4, 2.1, 2.3, 3.1),
    "two cores and a drafting pass": (1, 2.3, 2.8, 4.3, 4.7, 6.2),
}
Hazards = Callable[[int, int], Sequence[float]]  # cycle, row -> chance of each draft if all before it were right


@dataclass
class Outcome:
    """What simulated cycles gave: plain cycles of time, tokens, and the size of each cycle."""

    seconds: float
    tokens: int
    sizes: list[int]

    @property
    def rate(self) -> float:
        return self.tokens / self.seconds


def simulate(
    costs: Sequence[float],
    hazards: Hazards,
    cycles: int,
    rows: int = 1,
    seed: int = 0,
    restart: int = 10**9,
    sizes: Sequence[int] = SIZES,
) -> Outcome:
    """Run the policy; every `restart` cycles a row takes a new prompt."""
    chance, chooser, outcome = random.Random(seed), DraftLengthPolicy(sizes), Outcome(0.0, 0, [])
    chooser.start(range(rows))
    for cycle in range(cycles):
        if cycle % restart == restart - 1:
            chooser.start([cycle // restart % rows])
        size = chooser.choose([1000] * rows, costs)
        accepted = [right(hazards(cycle, row)[:size], chance) for row in range(rows)]
        chooser.observe(accepted)
        outcome.seconds += costs[list(sizes).index(size)] / costs[0]
        outcome.tokens += sum(accepted) + rows
        outcome.sizes.append(size)
    return outcome


def right(hazards: Sequence[float], chance: random.Random) -> int:
    return next((index for index, hazard in enumerate(hazards) if chance.random() >= hazard), len(hazards))


def best_rate(costs: Sequence[float], hazards: Sequence[float], rows: int = 1) -> float:
    """Return the tokens a plain cycle's time of the best fixed size."""
    rates = []
    for size, cost in zip(SIZES, costs, strict=True):
        survival, tokens = 1.0, 1.0
        for hazard in hazards[:size]:
            survival *= hazard
            tokens += survival
        rates.append(rows * tokens * costs[0] / cost)
    return max(rates)


def costs_drawn() -> st.SearchStrategy[tuple[float, ...]]:
    steps = st.lists(st.floats(0, 2), min_size=len(SIZES) - 1, max_size=len(SIZES) - 1)
    return steps.map(lambda more: tuple(1 + sum(more[:index]) for index in range(len(SIZES))))


def hazards_drawn() -> st.SearchStrategy[list[float]]:
    """Draw how sure a drafter is at first and at last."""
    ends = st.tuples(st.floats(0, 0.98), st.floats(0, 0.98))
    return ends.map(lambda pair: [pair[0] + (pair[1] - pair[0]) * index / 30 for index in range(31)])


@pytest.mark.parametrize("name", thorough_but(list(COSTS)[:2], COSTS))
@given(hazards=hazards_drawn(), rows=st.sampled_from([1, 4]), seed=st.integers(0, 9))
@fewer(10)
def test_as_quick_as_the_best_fixed_size(name: str, hazards: list[float], rows: int, seed: int) -> None:
    outcome = simulate(COSTS[name], lambda cycle, row: hazards, 1500, rows, seed)
    assert outcome.rate >= 0.85 * best_rate(COSTS[name], hazards, rows)


@pytest.mark.parametrize("name", thorough_but(["two cores and a drafting pass"], COSTS))
def test_close_to_it_where_it_matters(name: str) -> None:
    # Averaged over seeds and over how good a drafter is, the loss is small: no one case is an accident.
    shares = []
    for hazard in (0.0, 0.3, 0.5, 0.7, 0.9, 0.95):
        for seed in range(5):
            outcome = simulate(
                COSTS[name], lambda cycle, row, chance_of_end=hazard: [chance_of_end] * 31, 1000, seed=seed
            )
            shares.append(outcome.rate / best_rate(COSTS[name], [hazard] * 31))
    assert sum(shares) / len(shares) >= 0.955


@example((1, 1.01, 1.82, 1.82, 2.99, 3.85), 1, 20, 3000)  # hopes for the cheap size ended rests from the dear one
@given(costs=costs_drawn(), rows=st.integers(1, 5), restart=st.integers(5, 400), cycles=st.integers(1, 3000))
@fewer(3)
def test_a_drafter_that_is_always_wrong_costs_next_to_nothing(
    costs: tuple[float, ...], rows: int, restart: int, cycles: int
) -> None:
    """In plain cycles, with x the excess of the dearest size, no more than 4 + 4 x + a thirtieth is lost.

    While an estimate says that drafting pays, a wrong draft loses no more than the estimate promised. The first draft
    of all promises 0.7 + 0.7 ** 2 + ... < 2.4 tokens; after j wrong ones a row that is new expects the next to be right
    with 0.7 / (t + 1), t = 1 + 0.98 + ... of j terms, and one that is not with a part of that. All promises together
    are under 4, and 1 / 73 of the drafts beyond, as t stays under 50. A probe loses x at most beyond what was promised.
    Rests double from 16 to 64 plain cycles for each that was lost, so three or four probes are not paid for by the rest
    after them, and all others take one part in 64: 1 / 73 + 1 / 64 < 1 / 30.
    """
    outcome = simulate(costs, lambda cycle, row: [0.0] * 31, cycles, rows, restart=restart)
    assert outcome.seconds - cycles <= 4 + 4 * (costs[-1] - 1) + cycles / 30


@pytest.mark.parametrize("name", COSTS)
def test_probes_get_rarer_and_a_text_that_changes_is_noticed(name: str) -> None:
    turn = 600
    outcome = simulate(COSTS[name], lambda cycle, row: [0.0 if cycle < turn else 0.97] * 31, 2 * turn)
    drafts = [cycle for cycle, size in enumerate(outcome.sizes) if size]
    extra = [COSTS[name][SIZES.index(size)] - 1 for size in outcome.sizes[100:turn]]
    assert sum(extra) <= (turn - 100) / 64 + max(extra)  # all rests are long by then
    assert sum(size > 0 for size in outcome.sizes[-100:]) == 100
    noticed = next(cycle for cycle in drafts if cycle >= turn) - turn
    assert noticed <= 64 * (max(COSTS[name]) - 1) + 1  # no rest is longer


def test_rows_share_a_size_and_each_has_its_own_estimate() -> None:
    # One row in eight is always right: alone it would draft 31, but the others pay for the pass.
    hazards = [[0.99] * 31] + [[0.0] * 31] * 7
    dear = simulate((1, 2, 3, 5, 8, 16), lambda cycle, row: hazards[row], 800, rows=8)
    assert max(dear.sizes[-200:]) < 31
    cheap = simulate(COSTS["free passes"], lambda cycle, row: hazards[row], 800, rows=8)
    assert sum(cheap.sizes[-200:]) / 200 > 15


def test_a_row_that_ended_does_not_count() -> None:
    chooser = DraftLengthPolicy(SIZES)
    chooser.start([0, 1])
    for _ in range(30):
        size = chooser.choose([31, None], COSTS["free passes"])
        chooser.observe([size, 0])
    assert size == 31


def test_what_no_row_can_be_given_is_not_drafted_and_not_learned_from() -> None:
    chooser = DraftLengthPolicy(SIZES)
    chooser.start([0, 1])
    assert chooser.choose([0, None], COSTS["free passes"]) == 0
    chooser.observe([0, 0])
    assert chooser.choose([3, 0], COSTS["free passes"]) == 3  # more than three would be padding
    assert chooser.choose([40, 40], [1.0]) == 0  # no room but for the bonus
    assert chooser.chosen == {0: 2, 3: 1}


@given(st.lists(st.tuples(st.integers(0, 31), st.integers(0, 31)), max_size=60))
def test_estimates_are_chances(drafts: list[tuple[int, int]]) -> None:
    pooled = AcceptanceRate(SIZES)
    row = AcceptanceRate(SIZES, pooled)
    for length, accepted in drafts:
        for estimate in (pooled, row):
            estimate.observe(length, min(length, accepted))
    for estimate in (pooled, row):
        assert all(0 < chance < 1 for chance in estimate.chances())
        tokens = expected_tokens(estimate.chances(), SIZES, 31)
        assert tokens == sorted(tokens) and tokens[0] == 1 and tokens[-1] < 32


def test_estimates_are_the_shares_that_were_seen() -> None:
    chance, hazards = random.Random(0), [0.9] + [0.5] * 2 + [0.8] * 28
    pooled = AcceptanceRate(SIZES)
    for _ in range(300):
        pooled.observe(31, right(hazards, chance))
    chances = pooled.chances()
    assert chances[0] == pytest.approx(0.9, abs=0.1)
    assert chances[1] == pytest.approx(0.5, abs=0.15)
    assert chances[2] == pytest.approx(0.8, abs=0.15)


@pytest.mark.parametrize(("available", "tokens"), [(0, 1.0), (1, 1.5), (2, 1.75), (7, 2 - 0.5**7), (31, 2 - 0.5**31)])
def test_expected_tokens_are_a_sum_over_places(available: int, tokens: float) -> None:
    expected_counts = expected_tokens([0.5] * 5, SIZES, available)
    assert expected_counts[-1] == pytest.approx(tokens)
    assert expected_tokens([1.0] * 5, SIZES, available)[-1] == available + 1


@pytest.mark.parametrize(
    ("most", "sizes"), [(1, (0, 1)), (2, (0, 1, 2)), (15, (0, 1, 3, 7, 15)), (23, (0, 1, 3, 7, 15, 23)), (31, SIZES)]
)
def test_sizes_are_few_and_end_with_the_most(most: int, sizes: tuple[int, ...]) -> None:
    assert draft_sizes(most) == sizes


def test_what_was_drafted_in_one_cycle_counts_once() -> None:
    # Beside other drafters it observes every cycle, also those for which it was not asked.
    often, once = DraftLengthPolicy(SIZES), DraftLengthPolicy(SIZES)
    for policy in (often, once):
        policy.start([0])
        for _ in range(3):
            size = policy.choose([1000], COSTS["two cores"])
            policy.observe([size])
    for _ in range(50):
        often.observe([0])
    assert often.choose([1000], COSTS["two cores"]) == once.choose([1000], COSTS["two cores"]) > 0
