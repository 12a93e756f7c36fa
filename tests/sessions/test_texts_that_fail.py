"""A tokenizer that fails at the tokens of one request: that request ends, and no other one with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from support.sessions import Answered, assert_alone, note
from support.small_sessions import LETTERS, add, others, session_of, target_of

from orthrus import Decoder, Event, Sampling, Stop
from orthrus.reference.table import Letters, TableTarget
from orthrus_drafters.prompt_lookup import PromptLookup
from orthrus_verifiers.consensus import Consensus

G = 6  # the token of a letter


class Stumbling(Letters):
    """Fail at texts with a letter `g`."""

    def decode(self, token_ids: Sequence[int]) -> str:
        """Return the text, if there is one."""
        if G in token_ids:
            raise IndexError("planted")
        return super().decode(token_ids)


def stumbling() -> TableTarget:
    target = target_of()
    target.tokenizer = Stumbling(LETTERS)
    return target


WAYS: dict[str, Any] = {
    "stop strings": {"stop": Stop(16, strings=("no",)), "shows": False},
    "text that is shown": {"stop": Stop(16)},
    "a result's text": {"stop": Stop(2), "shows": False},
}


@pytest.mark.parametrize("way", WAYS)
def test_other_requests_go_on(way: str) -> None:
    target, without = stumbling(), Sampling(logit_bias={G: -100.0})
    session = session_of(target)
    drawn = [request for request in others(target) if G not in request.prompt]
    requests = [replace(request, stop=Stop(9), sampling=without) for request in drawn]
    answers = {request.id: Answered() for request in requests}
    failed: list[Event] = []
    for request in requests:
        add(session, request)
        session.add("ab", id=f"bad {request.id}", sampling={"logit_bias": {G: 100.0}}, **WAYS[way])
    for event in session:
        if event.id in answers:
            note(answers[event.id], event)
        else:
            failed += [event] if event.error else []
    assert sorted(event.id for event in failed) == sorted(f"bad {id}" for id in answers)
    assert all(str(event.error) == "planted" and event.result is None for event in failed)
    assert not session.pending
    for request in requests:
        assert_alone(target, request, answers[request.id])


@pytest.mark.parametrize("streams", [False, True])
def test_whole_decodings_raise_it(streams: bool) -> None:
    target = stumbling()
    decoder = Decoder.of(target, PromptLookup(2, 1, 4), Consensus(), Stop(30, strings=("no",)))
    with pytest.raises(IndexError, match="planted"):
        _ = list(decoder.stream("ab")) if streams else decoder.generate(["ab", "cd"])
