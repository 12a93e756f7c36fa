"""Passes without drafts that are launched before the host knows what they follow are those that would be run after."""

from __future__ import annotations

import functools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.building import assert_held, decode_with, family_oracle
from support.families import VOCABULARY
from support.recordings import recording_target

from orthrus import Decoder, Sampling, Stop
from orthrus.testing.profiles import fewer
from orthrus_drafters.none import NoDrafter
from orthrus_transformers.target import TransformersTarget
from orthrus_verifiers.consensus import Consensus
from orthrus_verifiers.coupled import Coupled


class Counted:
    """Count all passes of a target, and those that are launched ahead."""

    def __init__(self, target: TransformersTarget) -> None:
        self.passes = self.ahead = 0
        run, launch = target.engine.run, target.score_ahead
        target.engine.run = functools.partial(self._count, "passes", run)  # type: ignore[method-assign]
        target.score_ahead = functools.partial(self._count, "ahead", launch)  # type: ignore[method-assign]

    def _count(self, kind: str, call: Any, *args: Any, **named: Any) -> Any:
        setattr(self, kind, getattr(self, kind) + 1)
        return call(*args, **named)


def ahead_target() -> TransformersTarget:
    target = recording_target(chunk=5)
    assert not target.scores_ahead  # it is a CPU's
    target.scores_ahead = True
    return target


@functools.cache
def shared_target() -> TransformersTarget:
    return ahead_target()


@fewer(5)
@given(
    prompts=st.lists(st.lists(st.integers(0, VOCABULARY - 1), min_size=1, max_size=14), min_size=1, max_size=4),
    limit=st.integers(0, 30),
    stops=st.frozensets(st.integers(0, VOCABULARY - 1), max_size=2),
    batch=st.integers(1, 4),
    choices=st.booleans(),
)
def test_the_text_is_the_oracles(
    prompts: list[list[int]], limit: int, stops: frozenset[int], batch: int, choices: bool
) -> None:
    stop, target = Stop(limit, token_ids=stops), shared_target()
    target.scores_choices = choices  # as a GPU's does
    results = decode_with(target, NoDrafter(), prompts, stop, batch=batch)
    assert_held(results, family_oracle("llama"), prompts, stop)


@pytest.mark.parametrize("choices", [False, True])
def test_all_passes_but_what_ends_unexpectedly_are_launched_ahead(choices: bool) -> None:
    target = ahead_target()
    target.scores_choices = choices
    counted = Counted(target)
    results = decode_with(target, NoDrafter(), [[1, 2, 3]], Stop(40))
    assert len(results[0].token_ids) == 40
    assert counted.ahead == 39 and counted.passes == 40  # with the prefill; none for the token behind the last one


def test_choices_are_not_taken_for_logits_once_rows_want_these() -> None:
    """What was launched ahead for rows at temperature 0 is of no use where one joins them that draws."""
    target = ahead_target()
    target.scores_choices = True
    decoder = Decoder.of(target, NoDrafter(), Coupled(), Stop(12))
    alone = decoder.generate([[1, 2]])[0].token_ids
    session = decoder.session(batch=2)
    session.add([1, 2], id="greedy", texts=False)
    results = {}
    for number, event in enumerate(session):
        if number == 3:
            session.add([3], id="drawn", texts=False, sampling=Sampling(temperature=0.9))
        if event.result is not None:
            results[event.id] = event.result.token_ids
    assert results["greedy"] == alone
    assert len(results["drawn"]) == 12


def test_drawn_tokens_are_the_same() -> None:
    sampling, runs = Sampling(temperature=0.9, top_k=12), []
    for ahead in (False, True):
        target = ahead_target()
        target.scores_ahead = ahead
        results = decode_with(target, NoDrafter(), [[1, 2], [3]], Stop(30), 5, verifier=Coupled(), sampling=sampling)
        runs.append([result.token_ids for result in results])
    assert runs[0] == runs[1]


def test_a_pass_of_others_in_between_is_run_again() -> None:
    """A prompt that joins is passed over between two cycles, and so is what is asked of the target meanwhile."""
    target = ahead_target()
    counted = Counted(target)
    decoder = Decoder.of(target, NoDrafter(), Consensus(), Stop(12))
    alone = [decoder.generate([prompt])[0].token_ids for prompt in ([1, 2], [3, 4, 5])]
    counted.passes = counted.ahead = 0
    session = decoder.session(batch=2)
    session.add([1, 2], id="first", texts=False)
    results = {}
    for number, event in enumerate(session):
        if number == 3:
            session.add([3, 4, 5], id="second", texts=False)
        if event.result is not None:
            results[event.id] = event.result.token_ids
    assert [results["first"], results["second"]] == alone
    assert counted.passes > counted.ahead + 2  # besides two prefills one that was in between


def test_nothing_is_launched_for_rows_that_all_end() -> None:
    target = ahead_target()
    counted = Counted(target)
    results = decode_with(target, NoDrafter(), [[1], [2, 3], [4]], Stop(40), batch=1)
    assert counted.passes == sum(len(result.token_ids) for result in results)  # prefills included


def test_nothing_is_launched_between_the_chunks_of_a_prompt() -> None:
    target = ahead_target()
    session = Decoder.of(target, NoDrafter(), Consensus(), Stop(40)).session(batch=2, interleaves=True)
    session.add([1, 2], id="goes on", texts=False)
    events = iter(session)
    for _ in range(3):
        next(events)
    counted = Counted(target)
    session.add(list(range(1, 32)), id="comes", texts=False)  # in seven chunks
    steps = 0
    for event in events:
        steps += event.id == "goes on"
        if event.id == "comes":
            break
    assert steps > 3 and counted.passes <= 2 * steps + 4, "a cycle and a chunk each"


def test_rows_that_have_ended_ask_for_no_more_slots() -> None:
    target = ahead_target()
    decoder = Decoder.of(target, NoDrafter(), Consensus(), Stop(8))
    held = []
    for ahead in (False, True):
        target.scores_ahead = ahead
        session = decoder.session(batch=4)
        session.add([1] * 12, stop=Stop(4), texts=False)  # it ends with 16 tokens
        for _ in range(3):
            session.add([2, 3], texts=False)
        for _ in session:
            pass
        held.append(target.cache.bytes_in_use())
    assert held[0] == held[1]
