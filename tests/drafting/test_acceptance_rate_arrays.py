"""Estimates of many rows in arrays: they choose what the same in plain Python, row by row, would."""

from __future__ import annotations

import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orthrus.drafting import policy
from orthrus.drafting.acceptance_rate import AcceptanceRate, RowEstimates
from orthrus.drafting.acceptance_rate_arrays import BatchEstimates
from orthrus.drafting.policy import DraftLengthPolicy, draft_sizes
from orthrus.testing.profiles import fewer

CYCLES = 150


@dataclass(frozen=True)
class History:
    """Say how cycles go: what drafts cost, how sure each row's are, how often rows have new prompts, ends, little room.

    No two sizes cost the same: where they do, and nothing is accepted, rounding chooses.
    """

    most: int
    costs: tuple[float, ...]
    hazards: tuple[float, ...]  # of each row
    wrong_until: int  # a cycle, up to which all drafts are wrong
    restart: int  # every so many cycles a row takes a new prompt
    ragged: float  # share of rows that have ended or could be given few drafts
    seed: int


@st.composite
def histories(draw: st.DrawFn) -> History:
    most = draw(st.sampled_from([1, 2, 7, 15, 23, 31]))
    steps = draw(st.lists(st.floats(0.001, 1.5), min_size=len(draft_sizes(most)), max_size=len(draft_sizes(most))))
    return History(
        most=most,
        costs=tuple(1 + sum(steps[:index]) for index in range(len(steps))),
        hazards=tuple(draw(st.lists(st.floats(0, 1), min_size=1, max_size=7))),
        wrong_until=draw(st.integers(0, CYCLES)),
        restart=draw(st.integers(3, 100)),
        ragged=draw(st.sampled_from([0.0, 0.1, 0.6])),
        seed=draw(st.integers(0, 99)),
    )


def choices(history: History, chooser: DraftLengthPolicy) -> list[int]:
    """Return what is chosen cycle by cycle. Chances are drawn for all places, so that they do not depend on choices."""
    chance, count, sizes_chosen = random.Random(history.seed), len(history.hazards), []
    chooser.start(range(count))
    for cycle in range(CYCLES):
        if cycle % history.restart == history.restart - 1:
            chooser.start([chance.randrange(count)])
        available = [little(chance, history) for _ in range(count)]
        right = [accepted(chance, history, row, cycle) for row in range(count)]
        offered = chance.randint(1, len(history.costs)) if chance.random() < history.ragged else len(history.costs)
        size = chooser.choose(available, history.costs[:offered])
        chooser.observe([min(size, most or 0, count) for most, count in zip(available, right, strict=True)])
        sizes_chosen.append(size)
    return sizes_chosen


def little(chance: random.Random, history: History) -> int | None:
    if chance.random() >= history.ragged:
        return 1000
    return chance.choice([None, 0, chance.randint(1, history.most)])


def accepted(chance: random.Random, history: History, row: int, cycle: int) -> int:
    drawn = [chance.random() for _ in range(history.most)]
    hazard = history.hazards[row] if cycle >= history.wrong_until else 0.0
    return next((index for index, draw in enumerate(drawn) if draw >= hazard), history.most)


@pytest.mark.parametrize("few", [0, policy.FEW], ids=["all in arrays", "as it is"])
@given(history=histories())
@fewer(3)
def test_choices_are_those_of_plain_python(few: int, history: History) -> None:
    sizes_chosen = []
    for limit in (few, 1000):  # 1000: every row by itself
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(policy, "FEW", limit)
            sizes_chosen.append(choices(history, DraftLengthPolicy(draft_sizes(history.most))))
    assert sizes_chosen[0] == sizes_chosen[1]


Cycle = Sequence[tuple[int | None, int]]  # of each row: drafts that it had, and how many of them were right


@given(
    cycles=st.lists(
        st.lists(st.tuples(st.none() | st.integers(0, 31), st.integers(0, 31)), min_size=5, max_size=5), max_size=20
    ),
    starts=st.lists(st.sets(st.integers(0, 4)), min_size=20, max_size=20),
)
@fewer(2)
def test_estimates_are_those_row_by_row(cycles: list[Cycle], starts: list[set[int]]) -> None:
    sizes = draft_sizes(31)
    kinds = [RowEstimates(sizes, AcceptanceRate(sizes)), BatchEstimates(sizes, AcceptanceRate(sizes))]
    for rows in kinds:
        rows.start(range(5))
    for cycle, anew in zip(cycles, starts, strict=False):
        available = [most for most, _ in cycle]
        lengths = [most or 0 for most in available]
        right = [min(count, most or 0) for most, count in cycle]
        for rows in kinds:
            rows.start(sorted(anew))
            rows.observe(lengths, right)
        for count in (2, 4, len(sizes)):
            tokens, other = (rows.expected([31, *available[1:]], count) for rows in kinds)
            assert other == pytest.approx(tokens, rel=1e-9)
            tokens, other = (rows.expected([31, *available[1:]], count, 0.8) for rows in kinds)
            assert other == pytest.approx(tokens, rel=1e-12)


def test_a_batch_of_another_size_begins_with_what_is_known_of_all_rows() -> None:
    # The rows of a small batch and of a large one are estimated by different means; what all rows know is shared.
    chooser, costs = DraftLengthPolicy(draft_sizes(31)), (1, 1.5, 2, 2.5, 3, 3.5)
    chooser.start(range(40))
    for _ in range(60):
        chooser.choose([31] * 40, costs)
        chooser.observe([0] * 40)
    chooser.start([0])
    assert chooser.choose([31], costs) == 0  # it rests
    for _ in range(200):
        size = chooser.choose([31], costs)
        chooser.observe([size])
    chooser.start(range(40))
    assert chooser.choose([31] * 40, costs) == 31


def calls_of_cycles(rows: int) -> int:
    """Return how many functions ten cycles call in which something is drafted, built-in ones too."""
    chooser, calls = DraftLengthPolicy(draft_sizes(15)), [0]
    chooser.start(range(rows))
    sys.setprofile(lambda frame, event, argument: calls.append(1) if event in ("call", "c_call") else None)
    try:
        for _ in range(10):
            assert chooser.choose([40] * rows, (1, 1.01, 1.02, 1.03, 1.04)) == 15
            chooser.observe([9] * rows)
    finally:
        sys.setprofile(None)
    return sum(calls)


def test_many_rows_take_hardly_more_than_some() -> None:
    calls_of_cycles(8)  # the first time, tables are made
    assert calls_of_cycles(512) <= 1.1 * calls_of_cycles(8)
