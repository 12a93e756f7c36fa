"""The arithmetic of a prediction: costs between those measured, traces cut to a block, who is in a batch when."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orthrus.bench.results import Spread
from orthrus.errors import InputError
from orthrus.prediction.costs import levels
from orthrus.prediction.cycle_costs import CycleCosts, interpolated
from orthrus.prediction.halves import Halves
from orthrus.prediction.resampling import Speed, ratio_range
from orthrus.prediction.results import Expected, Measured, Prediction, Predictions
from orthrus.prediction.simulation import Simulation
from orthrus.prediction.trace import Trace
from orthrus.prompts import PromptRecord

points = st.dictionaries(st.integers(0, 40), st.floats(0, 10), min_size=1, max_size=5)


@given(points, st.integers(0, 50))
def test_what_was_not_measured_lies_between_its_neighbours(known: dict[int, float], at: int) -> None:
    below = max((point for point in known if point <= at), default=min(known))
    above = min((point for point in known if point >= at), default=max(known))
    low, high = sorted((known[below], known[above]))
    assert low - 1e-9 <= interpolated(known, at) <= high + 1e-9


def test_a_line_is_met_on_the_whole_of_it() -> None:
    assert [interpolated({2: 1.0, 6: 3.0}, at) for at in (0, 2, 4, 5, 6, 9)] == [1.0, 1.0, 2.0, 2.5, 3.0, 3.0]
    assert interpolated({}, 3) == 0.0


FLAT = CycleCosts({1: {0: 1.0, 9: 1.0}}, {}, {1: 0.5})
lengths = st.lists(st.integers(0, 9), min_size=1, max_size=12)


@given(lengths, st.integers(1, 9))
def test_a_trace_of_every_place_serves_smaller_blocks(runs: list[int], most: int) -> None:
    """Each run of right drafts is one cycle at a large block, and at a small one as many as it takes."""
    drafts, place = {}, 1
    for right in runs:
        drafts |= {place + step: (9, right - step) for step in range(right + 1)}
        place += right + 1
    outcome = Simulation([Trace(place, drafts)], 1, FLAT, most).run()
    assert outcome.row_cycles == sum(math.ceil((right + 1) / (most + 1)) for right in runs)
    assert outcome.new_tokens == place
    assert outcome.seconds == pytest.approx(0.5 + outcome.cycles)


def test_rows_that_end_take_the_next_prompt() -> None:
    """Two rows: one answers 5 tokens, the other 2 and then the waiting prompt's 3, which is prefilled alone."""
    costs = CycleCosts({1: {0: 1.0}, 2: {0: 10.0}}, {}, {1: 100.0, 2: 1000.0})
    outcome = Simulation([Trace(5, {}), Trace(2, {}), Trace(3, {})], 2, costs).run()
    assert outcome.seconds == 1000 + 10 + 100 + 2 * 10 + 1  # the last token is one row's alone
    assert Simulation([Trace(5, {}), Trace(2, {})], 2, costs, moves=False).run().seconds == 1000 + 4 * 10


def test_the_widest_draft_sets_the_cost_of_a_pass() -> None:
    costs = CycleCosts({2: {0: 0.0, 10: 10.0}}, {2: 0.25}, {2: 0.0})
    outcome = Simulation([Trace(2, {1: (3, 0)}), Trace(2, {1: (7, 0)})], 2, costs).run()
    assert outcome.seconds == 7.25


def test_answers_without_cycles_have_no_ratios() -> None:
    outcome = Simulation([Trace(1, {}), Trace(0, {})], 1, FLAT).run()
    assert (outcome.tokens_per_cycle, outcome.accepted_length, outcome.mean_cycle_seconds) == (None, None, None)
    assert outcome.tokens_per_second == 2.0


def test_a_ratio_depends_on_its_prompts_as_far_as_they_differ() -> None:
    def speed(most: int) -> Speed:
        return lambda traces: Simulation(traces, 1, FLAT, most).run().tokens_per_second

    right = Trace(10, dict.fromkeys(range(1, 10), (9, 9)))
    same, mixed = [right] * 6, [right, Trace(10, {})] * 3
    low, high = ratio_range(same, same, speed(9), speed(0))
    assert low == high == speed(9)(same) / speed(0)(same)
    low, high = ratio_range(mixed, mixed, speed(9), speed(0))
    assert 1 <= low < speed(9)(mixed) / speed(0)(mixed) < high <= speed(9)(same) / speed(0)(same)


def test_levels_are_all_numbers_of_rows_on_the_way_down() -> None:
    assert levels((1,)) == (1,)
    assert levels((6, 3)) == (1, 2, 3, 4, 6)


def records(*texts: str) -> list[PromptRecord]:
    return [PromptRecord(str(number), text) for number, text in enumerate(texts)]


@given(st.lists(st.text("ab", min_size=1, max_size=3), min_size=1, max_size=12))
def test_no_prompt_is_in_both_halves(texts: list[str]) -> None:
    given_records = records(*texts)
    if len(set(texts)) < 2:
        with pytest.raises(InputError, match=r"two prompts at least that differ: .*; there is 1$"):
            Halves.of(given_records)
        return
    halves = Halves.of(given_records)
    learned, measured = ([record.prompt for record in half] for half in (halves.learned, halves.measured))
    assert not {*learned} & {*measured}
    assert sorted({*learned, *measured}) == sorted({*texts})
    assert 0 <= len(learned) - len(measured) <= 1
    assert len(learned) + len(measured) + halves.repeated == len(texts)


def test_a_half_smaller_than_the_batch_is_refused() -> None:
    halves = Halves.of(records("a", "b", "c"))
    halves.check((1,))
    with pytest.raises(InputError, match="--batch 2 needs as many prompts in each half of the file; there are 1"):
        halves.check((1, 2))


def prediction(drafter: str, expected: float, measured: float | None) -> Prediction:
    figures = Expected(expected, expected / 10, (0.0, 9.0), None, None, None, 0.0, 0.0)
    spread = Spread((measured, measured)) if measured else None
    after = Measured(spread, spread, None, None, None, 1, 1.0) if spread else None
    return Prediction(drafter, None, 1, "this block", figures, after)


def test_the_fastest_is_the_fastest_that_was_measured() -> None:
    both = prediction("a", 30.0, 20.0), prediction("b", 10.0, 25.0)
    done = Predictions("", "", {}, {}, (), both)
    assert done.best(1).drafter == "b"
    assert [each.error for each in both] == pytest.approx([0.5, -0.6])
    alone = prediction("a", 30.0, None), prediction("b", 10.0, None)
    assert Predictions("", "", {}, {}, (), alone).best(1).drafter == "a"
    assert [each.error for each in alone] == [None, None]
