"""Many short requests, some of them cancelled, leave nothing behind in a session."""

from __future__ import annotations

import gc
import random
from collections import Counter
from collections.abc import Sequence
from itertools import islice
from types import FunctionType, ModuleType

import pytest
from support.small_sessions import target_of
from support.thorough import thorough_but

from orthrus import Context, Decoder, Session, Stop
from orthrus_drafters.none import NoDrafter
from orthrus_verifiers.consensus import Consensus


class Watched(NoDrafter):
    """Keep the context that it drafts for."""

    context: Context

    def start(self, context: Context, rows: Sequence[int]) -> None:
        self.context = context


@pytest.mark.parametrize("count", thorough_but([1_000], [1_000, 10_000]))
def test_many_requests_leave_nothing_behind(count: int) -> None:
    few = objects_held(answered(100))
    assert objects_held(answered(count)) < few + count // 10  # rows that have ended stay until others come


def answered(count: int) -> Session:
    """Return a session that has answered so many requests."""
    drafter = Watched()
    decoder = Decoder.of(target_of(), drafter, Consensus(), Stop(2))
    session, chooser, sizes = decoder.session(8), random.Random(0), set()
    going: list[str] = []
    reasons: Counter[str | None] = Counter()
    for number in range(count):
        going.append(session.add([number % 8], stop={"max_new_tokens": number % 4}))
        going = [id for id in going if id in session]
        if number % 10 == 0 and going:
            session.cancel(chooser.choice(going))
        if number % 16 == 0 and number:
            events = islice(session, chooser.randint(0, 60))
            reasons.update(event.result.finish_reason for event in events if event.result is not None)
            sizes.add((len(drafter.context.rows), drafter.context.tokens.shape[1]))
    reasons.update(event.result.finish_reason for event in session if event.result is not None)
    context = drafter.context
    assert reasons.keys() == {"length", "cancelled"} and reasons.total() == count
    assert reasons["cancelled"] >= count / 10 - 1
    assert session.pending == 0 and list(session) == [] and not any(id in session for id in going)
    assert context.requests == [] and not context.queue and not context.live
    assert max(rows for rows, _ in sizes) <= 8 and max(columns for _, columns in sizes) <= 5
    return session


def objects_held(session: Session) -> int:
    """Return how many objects can be come to from a session, but for code and what is the whole process's."""
    seen: dict[int, object] = {id(session): session}
    left: list[object] = [session]
    while left:
        for held in gc.get_referents(left.pop()):
            if gc.is_tracked(held) and id(held) not in seen and not isinstance(held, FunctionType | ModuleType | type):
                seen[id(held)] = held
                left.append(held)
    return len(seen)
