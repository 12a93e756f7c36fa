"""Many short requests, some of them cancelled, leave nothing behind in a session."""

from __future__ import annotations

import random
from collections import Counter
from itertools import islice

import pytest
from support.small_sessions import target_of
from support.thorough import thorough_but

from orthrus import Decoder, Stop
from orthrus_drafters.none import NoDrafter
from orthrus_verifiers.consensus import Consensus


@pytest.mark.parametrize("count", thorough_but([1_000], [1_000, 10_000]))
def test_many_requests_leave_nothing_behind(count: int) -> None:
    decoder = Decoder.of(target_of(), NoDrafter(), Consensus(), Stop(2))
    session, chooser, sizes = decoder.session(8), random.Random(0), set()
    going: list[str] = []
    reasons: Counter[str | None] = Counter()
    for number in range(count):
        going.append(session.add([number % 8], stop={"max_new_tokens": number % 4}))
        going = [id for id in going if id in session]
        if number % 10 == 0 and going:
            session.cancel(chooser.choice(going))
        if number % 16 == 0:
            events = islice(session, chooser.randint(0, 60))
            reasons.update(event.result.finish_reason for event in events if event.result is not None)
            sizes.add((len(session._context.rows), session._context.tokens.shape[1]))
    reasons.update(event.result.finish_reason for event in session if event.result is not None)
    context = session._context
    assert reasons.keys() == {"length", "cancelled"} and reasons.total() == count
    assert reasons["cancelled"] >= count / 10 - 1
    assert session.pending == 0 and not session._numbers and not session._events and session._steps is None
    assert context.requests == [] and not context.queue and not context.live
    assert max(rows for rows, _ in sizes) <= 8 and max(columns for _, columns in sizes) <= 5
