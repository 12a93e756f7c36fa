"""What counts as help, and in which order trials are told."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orthrus import InputError, Measures, Result
from orthrus.doctor.diagnosis import Diagnosis, Gain, diagnose
from orthrus.doctor.runner import Outcome
from orthrus.doctor.trials import PlannedTrial

COUNTS = st.lists(st.lists(st.integers(0, 7), min_size=3, max_size=3), min_size=4, max_size=4)


def results(*accepted: Sequence[int], text: int = 0) -> tuple[Result, ...]:
    """Return a result for each prompt, with so many drafts accepted in each of its cycles."""
    return tuple(
        Result(str(index), "", (text,), (), "length", Measures(9, len(counts), 9.0, tuple(counts), 1.0, None))
        for index, counts in enumerate(accepted)
    )


def told(base: tuple[Result, ...], **tried: Any) -> Diagnosis:
    attempts = [
        (
            PlannedTrial(name, "", {"drafter": {name: True}}, same_text=True),
            Outcome(refused=given) if isinstance(given, str) else Outcome(given),
        )
        for name, given in tried.items()
    ]
    return diagnose("somebody's", base, attempts)


@pytest.mark.parametrize(
    ("mean", "error", "helps"),
    [(0.19, 0.0, False), (0.21, 0.0, True), (2.0, 0.7, False), (2.2, 0.7, True), (-1.0, 0.1, False)],
)
def test_help_is_worth_a_word_and_no_chance(mean: float, error: float, helps: bool) -> None:
    assert Gain(mean, error, 3.0).helps is helps


def test_order() -> None:
    """What helps comes before what is higher by chance, then what is left, by what is accepted; refusals are last."""
    base = results([1, 1], [1, 1], [1, 1])
    diagnosis = told(
        base,
        refused="no such option",
        chance=results([1, 1], [1, 1], [7, 7]),
        worse=results([0, 0], [0, 0], [0, 0]),
        sure=results([2, 2], [2, 2], [2, 2]),
        same=base,
    )
    assert [outcome.trial.name for outcome in diagnosis.trials] == ["sure", "chance", "same", "worse", "refused"]
    assert diagnosis.best is diagnosis.trials[0]
    assert diagnosis.to_dict()["trials"][-1]["refused"] == "no such option"


@given(COUNTS, COUNTS)
def test_gain_is_between_the_prompts(before: list[list[int]], now: list[list[int]]) -> None:
    """It is the mean of the prompts' differences, and what loses to the config as it is never helps."""
    [outcome] = told(results(*before), tried=results(*now)).trials
    wanted = sum(sum(after) - sum(first) for after, first in zip(now, before, strict=True)) / 12
    assert outcome.gain is not None
    assert outcome.gain.mean == pytest.approx(wanted)
    assert not (outcome.helps and wanted < 0.2)


def test_a_text_that_changed_is_seen() -> None:
    base = results([1], [1], [1])
    [outcome] = told(base, tried=(*base[:2], *results([1], [1], [1], text=5)[2:])).trials
    assert outcome.identical == 2


def test_prompts_without_cycles_tell_nothing() -> None:
    """A prompt of which the prefill's token was all; with one left, nothing can be told."""
    with pytest.raises(InputError, match="fewer than 2 of 3 prompts took a cycle"):
        told(results([], [], [1, 1]))
    [outcome] = told(results([], [1], [1]), tried=results([], [], [3])).trials
    assert (outcome.gain, outcome.helps) == (None, False)
