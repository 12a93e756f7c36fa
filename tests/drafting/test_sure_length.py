"""How many drafts are scored by how sure a drafter is: no slower than any fixed number, however it is mistaken."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orthrus.drafting.calibration import Calibration
from orthrus.drafting.sure_length import SureLength

MOST = 7
SCORING = (1.0, 1.1, 1.2, 1.4, 1.5, 1.7, 1.9, 2.0)  # of a cycle, for each number of drafts
DRAFTING = 0.6
CYCLES = 1500
WORDS: dict[str, Callable[[float], float]] = {  # the true chance of a draft by its drafter's own probability
    "true": lambda probability: probability,
    "too sure": lambda probability: probability**2,
    "too modest": lambda probability: probability**0.4,
    "empty": lambda probability: 0.65,
}


def block(chance: random.Random) -> list[float]:
    sure = chance.random()
    return [max(0.01, min(0.99, sure * chance.uniform(0.6, 1.2) * 0.97**place)) for place in range(MOST)]


def accepted(probabilities: Sequence[float], true: Callable[[float], float], chance: random.Random) -> int:
    right = (chance.random() < true(probability) for probability in probabilities)
    return next((count for count, hit in enumerate(right) if not hit), len(probabilities))


def rate(true: Callable[[float], float], fixed: int | None) -> float:
    """Return the tokens a plain cycle's time; fixed: how many drafts are scored, None: as many as it chooses."""
    chance, sure, tokens, time = random.Random(1), SureLength(), 0, 0.0
    for _ in range(CYCLES):
        probabilities = block(chance)
        count = accepted(probabilities, true, chance)
        length = sure.cut([probabilities], DRAFTING, SCORING) if fixed is None else fixed
        if fixed is None:
            sure.observe([min(count, length)])
        tokens += 1 + min(count, length)
        time += DRAFTING + SCORING[length]
    return tokens / time


@pytest.mark.parametrize("word", WORDS)
def test_it_is_no_slower_than_any_fixed_number(word: str) -> None:
    fixed = [rate(WORDS[word], length) for length in range(MOST + 1)]
    assert rate(WORDS[word], None) >= 0.96 * max(fixed)
    if word != "empty":
        assert rate(WORDS[word], None) >= 1.03 * max(fixed)  # it knows which drafts are good


@given(
    rows=st.lists(st.lists(st.floats(0, 1), max_size=MOST), min_size=1, max_size=4),
    drafting=st.floats(0, 3),
    steps=st.lists(st.floats(0, 1), min_size=1, max_size=MOST),
)
def test_a_length_is_one_of_those_that_have_a_cost(
    rows: list[list[float]], drafting: float, steps: list[float]
) -> None:
    scoring = [1.0 + sum(steps[:count]) for count in range(len(steps) + 1)]
    sure = SureLength()
    for _ in range(3):
        length = sure.cut(rows, drafting, scoring)
        assert 0 <= length <= len(steps)
        assert [len(row) for row in sure.expected] == [len(row) for row in rows]
        sure.observe([min(length, len(row)) for row in rows])
    sizes = (0, 1, len(steps), MOST + 5)
    gains = sure.gains(len(rows), sizes)
    assert gains[-1] == gains[-2] >= 1 == gains[0] and all(gain >= 1 for gain in gains)


@given(st.integers(0, 99))
def test_what_four_rows_brought_says_nothing_of_a_single_row(seed: int) -> None:
    chance, fresh, used = random.Random(seed), SureLength(), SureLength()
    for _ in range(30):
        used.cut([block(chance) for _ in range(4)], DRAFTING, SCORING)
    for _ in range(10):
        probabilities = [block(chance)]
        assert used.cut(probabilities, DRAFTING, SCORING) == fresh.cut(probabilities, DRAFTING, SCORING)
    sizes = (0, 1, 3, MOST)
    assert used.gains(1, sizes) == fresh.gains(1, sizes)
    assert used.gains(4, sizes) != fresh.gains(4, sizes)


@given(st.integers(0, 99))
def test_what_a_short_text_brought_holds_for_a_long_one(seed: int) -> None:
    chance, short, long = random.Random(seed), SureLength(), SureLength()
    drafting, scoring = 8 * DRAFTING, [8 * seconds for seconds in SCORING]
    for _ in range(30):
        probabilities = [block(chance)]
        assert short.cut(probabilities, DRAFTING, SCORING) == long.cut(probabilities, drafting, scoring)
    for _ in range(10):
        probabilities = [block(chance)]
        assert short.cut(probabilities, drafting, scoring) == long.cut(probabilities, drafting, scoring)


def test_what_was_seen_outweighs_a_drafters_word() -> None:
    calibration = Calibration()
    for _ in range(200):
        calibration.observe([0.95, 0.95], 0)
        calibration.observe([0.15], 1)
    assert calibration.chance(0.95) < 0.05 < 0.95 < calibration.chance(0.15)
    for _ in range(3000):
        calibration.observe([0.5], 0)
    assert calibration.chance(0.95) == pytest.approx(0.95, abs=0.1)  # it is long ago
    assert calibration.chance(0.64) == pytest.approx(0.8, abs=0.02)  # of others nothing was seen: it is hoped for
