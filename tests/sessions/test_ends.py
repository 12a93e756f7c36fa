"""The end of a session: left in the middle, without requests for a while, and ended by a part that raises."""

from __future__ import annotations

import pytest
from support.sessions import assert_alone
from support.small_sessions import begun, finish, generated, others, session_of, target_of

from orthrus import Chance, Context, Decoder, Draft, InputError, Stop
from orthrus_drafters.none import NoDrafter
from orthrus_drafters.prompt_lookup import PromptLookup
from orthrus_verifiers.consensus import Consensus


def test_a_session_that_was_left_is_refused_and_does_no_harm() -> None:
    target = target_of()
    session, requests = session_of(target), others(target)
    begun(session, requests)
    decoder = Decoder.of(target, PromptLookup(2, 1, 4), Consensus(), Stop(9))
    alone = generated(Decoder.of(target_of(), NoDrafter(), Consensus(), Stop(9)), [[0, 1], [2]])
    assert generated(decoder, [[0, 1], [2]]) == alone
    with pytest.raises(InputError, match="another decoding was begun on this target; finish one before the next"):
        list(session)  # what was committed before comes first
    with pytest.raises(InputError, match=r"this session has ended with an error: .*; begin another$"):
        list(session)
    assert session.pending and generated(decoder, [[0, 1], [2]]) == alone


def test_a_session_without_requests_goes_on_after_another_decoding() -> None:
    target = target_of()
    session, requests = session_of(target), others(target)
    answers = begun(session, requests[:2])
    finish(session, answers)
    generated(Decoder.of(target, NoDrafter(), Consensus(), Stop(9)), [[0, 1], [2], [3]])
    answers |= begun(session, requests[2:])
    finish(session, answers)
    for request in requests:
        assert_alone(target, request, answers[request.id])


class Failing(NoDrafter):
    """Raise once a row has a number of tokens."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def propose(self, context: Context, chance: Chance) -> Draft:
        if any(len(row.output) >= 3 for row in context.rows):
            raise self.error
        return super().propose(context, chance)


@pytest.mark.parametrize("error", [RuntimeError("the drafter has a bug"), KeyboardInterrupt("Ctrl-C")])
def test_a_part_that_raises_ends_its_session_and_nothing_else(error: BaseException) -> None:
    target = target_of()
    session = Decoder.of(target, Failing(error), Consensus(), Stop(9)).session(2)
    for prompt in ([0, 1], [2], [3]):
        session.add(prompt)
    with pytest.raises(type(error)) as raised:
        list(session)
    assert raised.value is error
    assert raised.value.__notes__ == ["Steps are of all rows: none of the session's 3 requests can go on."]
    assert len(session.result("0").token_ids) == 3, "what was committed is not lost"
    sentence = f"this session has ended with an error: {type(error).__name__}: {error}; begin another"
    for _ in range(2):
        with pytest.raises(InputError) as refused:
            next(iter(session))
        assert str(refused.value) == sentence
    requests = others(target)
    later = session_of(target)
    answers = begun(later, requests)
    finish(later, answers)
    for request in requests:
        assert_alone(target, request, answers[request.id])
