"""Where a cycle's time goes: parts that take as long as they are told, on a clock of the test."""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections import Counter
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.bench import Clock
from support.building import table_target
from support.counted_passes import count_passes
from support.recordings import recording_target

from orthrus import AutoBlock, Context, Decoder, Draft, Scheduler, Stop
from orthrus.bench.profiler import Profile, TimedPart, profile
from orthrus.bench.results import Phases
from orthrus.choices import ScoresChoices, VerifiesChoices
from orthrus.moments import moments_of
from orthrus.one_pass import DraftsWhileScoring, ScoresWithBlocks
from orthrus.optional import (
    BoundsRows,
    DraftsAhead,
    FreesRows,
    MovesRows,
    PrefillsInChunks,
    ReadsLikeliest,
    ReadsTaps,
    RestoresPrefixes,
    TakesTurns,
    TappedTarget,
)
from orthrus.ranks.together import SharedTarget
from orthrus.score_ahead import DraftsNothing, ScoresAhead
from orthrus.testing import TableTarget
from orthrus.testing.profiles import fewer
from orthrus.trees import DraftsTrees, ReadsTrees, ScoresTrees, VerifiesTrees
from orthrus_drafters.none import NoDrafter
from orthrus_drafters.prompt_lookup import LONGEST, PromptLookup
from orthrus_verifiers.consensus import Consensus


class Slow:
    """Stand for a part and let the clock go on by so much whenever one of its members is used."""

    def __init__(self, part: Any, clock: Clock, **seconds: float) -> None:
        self._part, self._clock, self._seconds = part, clock, seconds

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._part, name)
        if not callable(value):
            self._clock.time += self._seconds.get(name, 0.0)
            return value

        def slowly(*arguments: Any) -> Any:
            self._clock.time += self._seconds.get(name, 0.0)
            return value(*arguments)

        return slowly


class Early(PromptLookup):
    """Do something while the host reads what was committed."""

    def ahead(self, context: Any, chance: Any) -> None:
        assert context.live


times = st.integers(0, 64).map(float)  # sums of whole numbers are exact


@fewer(2)
@given(times, times, times, times, times, times, st.integers(1, 3), st.integers(1, 3))
def test_every_part_gets_the_time_that_it_takes(
    propose: float, observe: float, score: float, verify: float, keep: float, between: float, prompts: int, batch: int
) -> None:
    clock = Clock()
    decoder = Decoder(
        Slow(table_target(), clock, score=score, keep=keep, prefill=1000.0),  # type: ignore[arg-type]
        Slow(PromptLookup(), clock, propose=propose, observe=observe, start=500.0),  # type: ignore[arg-type]
        Slow(Consensus(), clock, verify=verify),  # type: ignore[arg-type]
        Stop(12),
    )
    own = Scheduler.check

    def check(self: Scheduler, draft: Draft) -> Draft:
        clock.time += between
        return own(self, draft)

    with mock.patch.object(Scheduler, "check", check):
        profiled = profile(decoder, [[1, 2, 3]] * prompts, batch, clock)
    assert profiled is not None
    assert profiled.phases == Phases(draft=propose + observe, score=score, verify=verify, commit=keep, other=between)


@fewer(3)
@given(times, times, times)
def test_what_is_launched_ahead_is_drafting_though_it_is_within_the_commit(
    ahead: float, propose: float, keep: float
) -> None:
    clock = Clock()
    decoder = Decoder(
        Slow(table_target(), clock, keep=keep),  # type: ignore[arg-type]
        Slow(Early(), clock, propose=propose, ahead=ahead),  # type: ignore[arg-type]
        Consensus(),
        Stop(12),
    )
    profiled = profile(decoder, [[1, 2, 3]], 1, clock)
    assert profiled is not None
    assert profiled.phases == Phases(draft=propose + ahead, score=0, verify=0, commit=keep, other=0)


@fewer(3)
@given(st.lists(st.integers(1, 9).map(float), min_size=7, max_size=7), st.booleans())
def test_the_parts_add_up_to_the_cycle(ticks: list[float], plain: bool) -> None:
    clock = Clock(itertools.cycle(ticks))
    decoder = Decoder.of(table_target(), NoDrafter() if plain else PromptLookup(), Consensus(), Stop(12))
    profiled = profile(decoder, [[1, 2, 3]], 1, clock)
    assert profiled is not None
    # Two looks for each of prefill, verify and keep; then for propose, score, verify, keep and observe in every cycle.
    ends = clock.looks[13::10]
    assert sum(dataclasses.astuple(profiled.phases)) == pytest.approx((ends[-1] - ends[0]) / (len(ends) - 1))


ASKED_OF_TARGETS = (
    *(BoundsRows, FreesRows, MovesRows, PrefillsInChunks, RestoresPrefixes, SharedTarget, TakesTurns, TappedTarget),
    *(ScoresAhead, ScoresChoices, ScoresTrees, ScoresWithBlocks),
)
ASKED_OF_DRAFTERS = (
    *(DraftsAhead, DraftsNothing, DraftsTrees, DraftsWhileScoring, MovesRows, ReadsLikeliest, ReadsTaps, ReadsTrees),
)


METHODS = {
    "target": ("prefill", "score", "score_choices", "score_ahead", "score_with_blocks", "keep"),
    "drafter": ("propose", "observe", "ahead"),
    "verifier": ("verify", "verify_choices"),
}


@pytest.mark.parametrize(
    ("part", "ability"),
    [
        *(("target", ability) for ability in ASKED_OF_TARGETS),
        *(("drafter", ability) for ability in ASKED_OF_DRAFTERS),
        *(("verifier", ability) for ability in (VerifiesChoices, VerifiesTrees)),
    ],
)
def test_what_a_part_can_do_is_among_a_timed_parts_own_members(part: str, ability: Any) -> None:
    """From Python 3.12 on `isinstance` looks for no others."""
    timed = TimedPart(mock.MagicMock(), METHODS[part], [], moments_of(torch.device("cpu"), Clock()))
    assert isinstance(SimpleNamespace(**vars(timed)), ability)


def test_no_cycle_follows_a_cycle_where_answers_are_short() -> None:
    decoder = Decoder.of(table_target(), NoDrafter(), Consensus(), Stop(2))  # the prefill's token, and one cycle's
    assert profile(decoder, [[1], [2]], 1, Clock()) is None


def test_decoding_is_what_it_is_without_watching() -> None:
    decoder = Decoder.of(table_target(), PromptLookup(), Consensus(), Stop(30))
    tokens = decoder.generate([[1, 2, 3]])[0].token_ids
    seen: list[int] = []
    verifier = Slow(decoder.verifier, Clock())
    real = decoder.verifier.verify

    def spy(context: Any, draft: Any, logits: Any, chance: Any) -> Any:
        seen.append(draft.tokens.shape[1])
        return real(context, draft, logits, chance)

    verifier.verify = spy
    watched = dataclasses.replace(decoder, verifier=verifier)  # type: ignore[arg-type]
    assert profile(watched, [[1, 2, 3]], 1, Clock()) is not None
    assert max(seen) > 0 and len(seen) < len(tokens)  # drafts came and were accepted


class Weighed(TableTarget):
    """Say what a pass reads: 1,000 and the tokens of all rows."""

    def pass_bytes(self, lengths: list[int]) -> int:
        assert all(length > 0 for length in lengths)
        return 1000 + sum(lengths)


def weighed(prompts: list[list[int]], batch: int, stop: Stop, seed: int = 0) -> Profile | None:
    target = table_target(seed)
    target.__class__ = Weighed
    return profile(Decoder.of(target, NoDrafter(), Consensus(), stop), prompts, batch, Clock())


def test_a_pass_reads_the_keys_of_the_rows_that_are_live() -> None:
    # Cycles 2, 3, 4 of a row of 3 tokens begin with 5, 6, 7: the prompt, and what was committed.
    profiled = weighed([[1, 2, 3]], 1, Stop(5))
    assert profiled is not None and profiled.pass_bytes == 1000 + (5 + 6 + 7) / 3
    both = weighed([[1, 2, 3], [1] * 10], 2, Stop(5))
    assert both is not None and both.pass_bytes == 1000 + (5 + 6 + 7 + 12 + 13 + 14) / 3


def test_a_row_that_has_ended_is_not_read() -> None:
    decoder = Decoder.of(table_target(seed=3), NoDrafter(), Consensus(), Stop(8))
    [first, second] = decoder.generate([[1, 2, 3], [0]], batch=2)
    ended = next(token for token in first.token_ids[3:6] if token not in (*first.token_ids[:3], *second.token_ids))
    profiled = weighed([[1, 2, 3], [0]], 2, Stop(8, token_ids=frozenset({ended})), seed=3)
    cycles = first.token_ids.index(ended)  # of the first row; the prefill gave its first token
    expected = [1000 + (3 + cycle if cycle <= cycles else 0) + (1 + cycle) for cycle in range(2, 8)]
    assert 2 <= cycles < 7
    assert profiled is not None and profiled.pass_bytes == pytest.approx(sum(expected) / len(expected))


def test_a_target_that_does_not_tell_has_no_bytes() -> None:
    profiled = profile(Decoder.of(table_target(), NoDrafter(), Consensus(), Stop(9)), [[1]], 1, Clock())
    assert profiled is not None and profiled.pass_bytes is None


def test_a_drafter_that_chooses_tells_what_it_chose() -> None:
    target = table_target()
    drafter = PromptLookup(2, 1, LONGEST, auto=AutoBlock(target, LONGEST))
    profiled = profile(Decoder.of(target, drafter, Consensus(), Stop(40)), [[1, 2, 3]], 1, Clock())
    assert profiled is not None
    assert re.fullmatch(r"\d+:\d+%( \d+:\d+%)*", profiled.engine["drafts"])
    fixed = profile(Decoder.of(target, PromptLookup(2, 1), Consensus(), Stop(40)), [[1, 2, 3]], 1, Clock())
    assert fixed is not None and fixed.engine == {}


@pytest.mark.parametrize("drafter", [NoDrafter, PromptLookup])
@pytest.mark.parametrize("choices", [False, True])
def test_passes_that_are_profiled_are_those_that_decoding_runs(
    drafter: type[NoDrafter | PromptLookup], choices: bool
) -> None:
    target, launches = recording_target(), Counter[bool]()
    passes = count_passes(target)
    target.scores_ahead, target.scores_choices = True, choices  # as a GPU's do
    launch = target.score_ahead

    def launched(context: Context, choices: bool = False) -> None:
        launches[choices] += 1
        launch(context, choices)

    target.score_ahead = launched  # type: ignore[method-assign]  # a spy in its place
    decoder = Decoder.of(target, drafter(), Consensus(), Stop(12))
    decoder.generate([[1, 2, 3] * 3])
    decoded = Counter(passes), Counter(launches)
    passes.clear()
    launches.clear()
    assert profile(decoder, [[1, 2, 3] * 3], 1, Clock()) is not None
    assert (passes, launches) == decoded
    assert passes.keys() == {"choices" if choices else "logits"}
    assert launches.keys() == ({choices} if drafter is NoDrafter else set())
