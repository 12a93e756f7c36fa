"""One run of a subject, on a clock of the test: every measure is the sum, mean or quotient that its name says."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Sequence

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.bench import Clock
from support.building import table_target

from orthrus import BaselineAnswer, Decoder, InputError, Stop
from orthrus.bench.measurement import run_baseline, run_decoder
from orthrus.testing.profiles import fewer
from orthrus.testing.strategies import batches
from orthrus_drafters.none import NoDrafter
from orthrus_drafters.prompt_lookup import PromptLookup
from orthrus_verifiers.consensus import Consensus

CPU = torch.device("cpu")
PROMPTS = batches(4, longest=6)


@fewer(2)
@given(PROMPTS, st.integers(1, 5), st.integers(1, 12), st.booleans(), st.integers(0, 9))
def test_the_measures_of_a_decoder(prompts: list[list[int]], batch: int, limit: int, plain: bool, seed: int) -> None:
    drafter = NoDrafter() if plain else PromptLookup()
    decoder = Decoder.of(table_target(seed), drafter, Consensus(), Stop(limit, token_ids=frozenset({2})))
    clock = Clock(itertools.cycle([0.5, 3.0, 1.25]))
    sample = run_decoder(decoder, prompts, batch, clock)
    results = decoder.generate(prompts, batch=batch)
    assert sample.token_ids == tuple(result.token_ids for result in results)
    assert [measures.cycles for measures in sample.measures] == [result.measures.cycles for result in results]
    assert [measures.passes for measures in sample.measures] == [result.measures.passes for result in results]

    # Again, without the code that is tested: what each step was, between two looks at the clock.
    steps = list(decoder.steps(prompts, batch)[1])
    began, *marks, ended = clock.looks
    assert len(marks) == len(steps)
    spent = [after - before for before, after in itertools.pairwise([began, *marks])]
    assert sample.seconds == ended - began
    assert sample.tokens_per_second == sum(map(len, sample.token_ids)) / (ended - began)
    first = [seconds for step, seconds in zip(steps, spent, strict=True) for _ in step.prefilled]
    assert sample.ttft_seconds == pytest.approx(statistics.fmean(first))
    cycles = [seconds for step, seconds in zip(steps, spent, strict=True) if not step.prefilled]
    assert sample.cycle_seconds == (pytest.approx(statistics.fmean(cycles)) if cycles else None)


class Fixed:
    """A baseline whose answers are known, and that takes as long as it says."""

    def __init__(self, clock: Clock, answers: Sequence[tuple[BaselineAnswer, float]]) -> None:
        self._clock, self._answers = clock, iter(answers)

    def answer(self, prompts: Sequence[Sequence[int]], stop: Stop) -> BaselineAnswer:
        answer, seconds = next(self._answers)
        self._clock.time += seconds
        return answer


def test_the_measures_of_a_baseline_batch_after_batch() -> None:
    clock = Clock()
    two, single = BaselineAnswer(((1, 2, 3), (4,)), 2.0, 2), BaselineAnswer(((5, 6),), 1.0, 1)
    sample = run_baseline(Fixed(clock, [(two, 10.0), (single, 4.0)]), Stop(), [[1], [2], [3]], 2, clock, CPU)
    assert sample.token_ids == ((1, 2, 3), (4,), (5, 6))
    assert sample.seconds == 14.0
    assert sample.tokens_per_second == 6 / 14
    assert sample.ttft_seconds == pytest.approx((2 + 2 + 1) / 3)
    assert sample.cycle_seconds == pytest.approx((8 + 3) / (2 + 1))
    assert sample.measures == ()  # the passes of a batch are not those of any one row


def test_the_measures_of_a_baseline_prompt_by_prompt() -> None:
    clock = Clock()
    answers = [(BaselineAnswer(((1,) * 9,), 1.0, 4), 5.0), (BaselineAnswer(((1,),), 1.0, 0), 1.5)]
    sample = run_baseline(Fixed(clock, answers), Stop(), [[1], [2]], 1, clock, CPU)
    assert [(measures.new_tokens, measures.cycles, measures.passes) for measures in sample.measures] == [
        (9, 4, 5),
        (1, 0, 1),
    ]
    assert [measures.tokens_per_cycle for measures in sample.measures] == [2.0, None]


def test_what_a_baseline_cannot_tell_is_nothing() -> None:
    clock = Clock()
    answers = [(BaselineAnswer(((1, 2),)), 2.0), (BaselineAnswer(((1, 2),), 1.0, 1), 2.0)]
    sample = run_baseline(Fixed(clock, answers), Stop(), [[1], [2]], 1, clock, CPU)
    assert (sample.ttft_seconds, sample.cycle_seconds, sample.measures) == (None, None, ())
    assert sample.seconds == 4.0


def test_a_baseline_that_loses_a_prompt_is_refused() -> None:
    clock = Clock()
    answers = [(BaselineAnswer(((1, 2),)), 2.0)]
    with pytest.raises(InputError, match="gave 1 answers to a batch of 2 prompts"):
        run_baseline(Fixed(clock, answers), Stop(), [[1], [2]], 2, clock, CPU)
