"""Bad input of a session: one sentence, nothing lost, and the other requests get what they get alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from support.sessions import assert_alone
from support.small_sessions import LONGEST, begun, finish, others, session_of, target_of

from orthrus import Context, Decoder, InputError, Sampling, Session, Stop
from orthrus_drafters.none import NoDrafter
from orthrus_drafters.prompt_lookup import PromptLookup
from orthrus_verifiers.consensus import Consensus
from orthrus_verifiers.rejection import Rejection


class Watched(PromptLookup):
    """Keep the context that it drafts for."""

    context: Context

    def start(self, context: Context, rows: Sequence[int]) -> None:
        self.context = context
        super().start(context, rows)


def watched() -> Watched:
    return Watched(2, 1, 4)


def state_of(session: Session, drafter: Watched) -> tuple[Any, ...]:
    """Return all that a request which is taken changes."""
    context = drafter.context
    rows = [(row.request, row.finish_reason, tuple(row.output)) for row in context.rows]
    return session.pending, context.arrivals, context.width, len(context.queue), len(context.requests), rows


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "id taken": ({"id": "r0"}, "the id 'r0' is taken"),
    "id no text": ({"id": 5}, "a request's id must be text, not 5"),
    "id a list": ({"id": ["bad"]}, "a request's id must be text, not ['bad']"),
    "prompt empty": ({"prompt": ""}, "prompt 'bad' is empty"),
    "prompt without tokens": ({"prompt": []}, "prompt 'bad' is empty"),
    "prompt no prompt": ({"prompt": 5}, "prompt 'bad' must be text, token ids or messages, not 5"),
    "prompt foreign": ({"prompt": "axb"}, "prompt 'bad': 'x' is not in the alphabet"),
    "token foreign": ({"prompt": [0, 8]}, "prompt 'bad': 8 is no token; there are 8"),
    "token below 0": ({"prompt": [-1]}, "prompt 'bad': -1 is no token; there are 8"),
    "prompt too long": (
        {"prompt": [0] * LONGEST},
        "prompt 'bad' has 40 tokens; the model's context of 40 leaves",
    ),
    "stop of a type": ({"stop": 5}, "request 'bad': stop must be a Stop or a mapping, not 5"),
    "stop of sampling": ({"stop": Sampling()}, "request 'bad': stop must be a Stop or a mapping, not Sampling("),
    "stop unknown": ({"stop": {"max_tokens": 5}}, "request 'bad': stop.max_tokens: unknown option 'max_tokens'"),
    "stop no text": ({"stop": {5: 5}}, "request 'bad': stop.5: unknown option '5'"),
    "stop below 0": (
        {"stop": {"max_new_tokens": -1}},
        "request 'bad': stop.max_new_tokens: must be at least 0, not -1",
    ),
    "stop object": ({"stop": Stop(-1)}, "request 'bad': stop.max_new_tokens: must be at least 0, not -1"),
    "stop foreign": ({"stop": {"token_ids": [8]}}, "request 'bad': stop.token_ids: 8 is no token of the target"),
    "stop empty": ({"stop": {"strings": [""]}}, "request 'bad': stop.strings"),
    "sampling of a type": ({"sampling": "hot"}, "request 'bad': sampling must be a Sampling or a mapping, not 'hot'"),
    "sampling unknown": ({"sampling": {"heat": 1}}, "request 'bad': sampling.heat: unknown option 'heat'"),
    "sampling bounds": ({"sampling": {"top_p": 2.0}}, "request 'bad': sampling.top_p: must be at most 1.0, not 2.0"),
    "sampling object": ({"sampling": Sampling(-1.0)}, "request 'bad': sampling.temperature: must be at least 0.0"),
    "sampling foreign": ({"sampling": {"logit_bias": {8: 1.0}}}, "request 'bad': sampling.logit_bias: 8 is no token"),
    "seed a fraction": ({"seed": 1.5}, "request 'bad': the seed must be an integer of 64 bits, not 1.5"),
    "seed a truth": ({"seed": True}, "request 'bad': the seed must be an integer of 64 bits, not True"),
    "seed too large": (
        {"seed": 2**64},
        "request 'bad': the seed must be an integer of 64 bits, not 1844",
    ),
    "logprobs below 0": ({"logprobs": -1}, "request 'bad': logprobs must be None, or from 0 to 8, not -1"),
    "logprobs too many": ({"logprobs": 9}, "request 'bad': logprobs must be None, or from 0 to 8, not 9"),
    "logprobs a truth": ({"logprobs": True}, "request 'bad': logprobs must be None, or from 0 to 8, not True"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_refused_changes_nothing(name: str) -> None:
    target = target_of()
    drafter, requests = watched(), others(target)
    session = session_of(target, drafter)
    answers, (settings, sentence) = begun(session, requests), BAD[name]
    before = state_of(session, drafter)
    with pytest.raises(InputError) as refused:
        session.add(**{"prompt": "ab", "id": "bad"} | settings)
    assert str(refused.value).startswith(sentence) and "\n" not in str(refused.value)
    assert state_of(session, drafter) == before and "bad" not in session
    finish(session, answers)
    for request in requests:
        assert_alone(target, request, answers[request.id])


@pytest.mark.parametrize(
    ("verifier", "settings", "sentence"),
    [
        (Consensus(), {"sampling": {"temperature": 0.5}}, "sampling.temperature must be 0, not 0.5"),
        (Consensus(), {"sampling": Sampling(0.5)}, "sampling.temperature must be 0, not 0.5"),
        (Rejection(), {"seed": 5}, "a request cannot have a seed with the verifier 'Rejection'"),
    ],
)
def test_what_the_verifier_cannot_do_is_refused(verifier: Any, settings: dict[str, Any], sentence: str) -> None:
    drafter = watched()
    session = Decoder.of(target_of(), drafter, verifier, Stop(9, 9)).session()
    session.add("ab", id="good")
    next(iter(session))
    before = state_of(session, drafter)
    with pytest.raises(InputError) as refused:
        session.add("ab", id="bad", **settings)
    assert str(refused.value).startswith(f"request 'bad': {sentence}")
    assert state_of(session, drafter) == before
    assert [event.id for event in session if event.result is not None] == ["good"]


@pytest.mark.parametrize("id", ["r0", "nobody", 5])
def test_cancel_of_a_request_that_does_not_go_on_is_refused(id: Any) -> None:
    target = target_of()
    drafter, requests = watched(), others(target)
    session = session_of(target, drafter)
    session.add("ab", id="r0", stop=Stop(1))
    session.cancel("r0")  # ended, though nobody has been told yet
    assert [event.id for event in session] == ["r0"]
    requests = requests[1:]
    answers = begun(session, requests)
    before = state_of(session, drafter)
    with pytest.raises(InputError) as refused:
        session.cancel(id)
    assert str(refused.value) == f"no request '{id}' goes on: there is none, or it has ended"
    assert state_of(session, drafter) == before
    finish(session, answers)
    for request in requests:
        assert_alone(target, request, answers[request.id])


def test_ids_that_nobody_chose_do_not_collide_with_chosen_ones() -> None:
    session = session_of(target_of())
    assert [session.add("ab", id="1"), session.add("ab"), session.add("ab"), session.add("ab")] == ["1", "2", "3", "4"]
    assert sorted(event.id for event in session if event.result is not None) == ["1", "2", "3", "4"]


@pytest.mark.parametrize("batch", [0, -1, "8", 2.0, True, None])
def test_a_session_of_no_rows_is_refused(batch: Any) -> None:
    decoder = Decoder.of(target_of(), NoDrafter(), Consensus(), Stop(3))
    with pytest.raises(InputError, match=r"^batch must be at least 1, not "):
        decoder.session(batch)
