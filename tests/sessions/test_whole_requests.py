"""Requests without events of each step: the last event and the tally have what all events would have had."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.small_sessions import LETTERS, target_of

from orthrus import Decoder, Event, Stop, Tally
from orthrus_drafters.prompt_lookup import PromptLookup
from orthrus_verifiers.coupled import Coupled


def run(seed: int, streams: bool) -> tuple[dict[str, list[Event]], Tally]:
    """Return the events of requests of which some end early, some are cancelled, and some are streams all the same."""
    chooser, tally = random.Random(seed), Tally()
    decoder = Decoder.of(target_of(), PromptLookup(2, 1, 4), Coupled(), Stop(20), 5)
    session = decoder.session(3, counts_drafts=True, tally=tally)
    events: dict[str, list[Event]] = {}
    for number in range(9):
        session.add(
            "".join(chooser.choices(LETTERS, k=5)),
            id=str(number),
            stop=Stop(chooser.choice([0, 1, 9, 20]), strings=chooser.choice([(), ("ab",)])),
            logprobs=chooser.choice([None, 0, 2]),
            shows=chooser.random() < 0.5,
            streams=streams or number % 3 == 0,
        )
    for step in range(200):
        for event in session.advance():
            events.setdefault(event.id, []).append(event)
        if step == 4 and "7" in session:
            session.cancel("7")
        if step == 6 and "1" in session:
            session.cancel("1")
    assert not session.pending
    return events, tally


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32))
def test_the_last_event_has_what_lies_between(seed: int) -> None:
    (all_events, all_counts), (few_events, few_counts) = run(seed, True), run(seed, False)
    assert all_events.keys() == few_events.keys()
    for id, events in all_events.items():
        few = few_events[id]
        assert len(few) <= 2 or int(id) % 3 == 0
        assert together(few) == together(events)
        (last,), (result,) = ([event.result for event in each if event.result] for each in (events, few))
        assert (result.token_ids, result.text, result.scores) == (last.token_ids, last.text, last.scores)
    totals, fewer = all_counts.take(), few_counts.take()
    every = [event for events in all_events.values() for event in events]
    assert totals.tokens == fewer.tokens == sum(len(event.token_ids) for event in every)
    assert totals.drafts == fewer.drafts == sum(event.drafted > 0 for event in every)
    assert totals.drafted == fewer.drafted == sum(event.drafted for event in every)
    assert totals.accepted == fewer.accepted == sum(totals.accepted_at) == sum(event.accepted for event in every)
    reached = Counter(position for event in every for position in range(event.accepted))
    assert totals.accepted_at == fewer.accepted_at == tuple(reached[position] for position in range(len(reached)))
    gaps = sum(max(0, sum(bool(event.token_ids) for event in events) - 1) for events in all_events.values())
    assert sum(count for _, count in totals.gaps) == sum(count for _, count in fewer.gaps) == gaps


def together(events: list[Event]) -> tuple[object, ...]:
    """Return what the events of a request have in all."""
    return (
        [token for event in events for token in event.token_ids],
        "".join(event.text for event in events),
        sum(event.accepted for event in events),
        sum(event.drafted for event in events),
        [scores for event in events for scores in event.scores or ()],
    )


@pytest.mark.parametrize("streams", [True, False])
def test_held_tokens_are_those_of_requests_that_are_decoded(streams: bool) -> None:
    session = Decoder.of(target_of(), PromptLookup(2, 1, 4), Coupled(), Stop(20), 5).session(2)
    for number in range(3):
        session.add("abcd", id=str(number), stop=Stop(20, past_end=True), streams=streams)
    assert session.held_tokens == 0
    session.advance()
    assert session.held_tokens == 2 * (4 + 1)
    session.cancel("0")
    assert session.held_tokens == 4 + 1
    list(session)
    assert session.held_tokens == 0


def test_a_request_that_shows_drafts_has_all_events() -> None:
    session = Decoder.of(target_of(), PromptLookup(2, 1, 4), Coupled(), Stop(9, past_end=True), 5).session(2)
    session.add("abab", streams=False, drafts=True)
    assert len(list(session)) > 2
