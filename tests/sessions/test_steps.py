"""Sessions step by step, and what a request may have besides: another's noise, no text, and its drafts counted."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.building import transformers_target
from support.sessions import Answered, Asked, assert_alone, decoder_of, note, random_request
from support.small_sessions import LETTERS, add, target_of

from orthrus import Decoder, Event, InputError, Sampling, Stop
from orthrus.sampling.request_settings import request_stop
from orthrus_drafters.prompt_lookup import PromptLookup
from orthrus_drafters.replay import Replay
from orthrus_verifiers.coupled import Coupled
from orthrus_verifiers.rejection import Rejection


def decoder(verifier: Coupled | Rejection | None = None) -> Decoder:
    return Decoder.of(target_of(), PromptLookup(2, 1, 4), verifier or Coupled(), Stop(12), 5)


def test_steps_have_all_events_of_a_step_and_give_what_iterating_gives() -> None:
    target = target_of()
    chooser = random.Random(3)
    requests = [random_request(chooser, str(number), target.vocabulary_size, LETTERS) for number in range(30)]
    session, answers = decoder_of(target, PromptLookup(2, 1, 4)).session(4), {}
    waiting: list[Asked] = list(requests)
    while waiting or session.pending:
        for request in waiting[:2]:
            answers[request.id] = Answered()
            add(session, request)
        del waiting[:2]
        events = session.advance()
        steps = [event.step for event in events if event.step is not None]
        assert len({id(step) for step in steps}) <= 1
        assert not steps or len(steps) == sum(map(bool, steps[0].committed))
        for event in events:
            note(answers[event.id], event)
    assert session.advance() == []
    for request in requests:
        assert_alone(target, request, answers[request.id])


def test_a_step_may_be_a_chunk_of_prompts_which_nobody_has_news_of() -> None:
    session = Decoder.of(transformers_target(chunk=4), PromptLookup(2, 1, 4), Coupled(), Stop(3)).session(2)
    session.add([1] * 40)
    before = 0
    while not (events := session.advance()):
        before += 1
    assert before > 3 and events[0].token_ids


def test_events_count_the_drafts_if_the_session_does() -> None:
    known = Decoder.of(target_of(), Replay(4, 1.0), Coupled(), Stop(20))
    for counts in (False, True):
        session = known.session(2, counts_drafts=counts)
        for number in range(3):
            session.add("abc", stop={"max_new_tokens": 20}, logprobs=1 if number else None)
        events = list(session)
        assert all(event.drafted >= event.accepted for event in events) or not counts
        assert any(event.drafted for event in events) is counts
    lookup = decoder().session(1, counts_drafts=True)
    lookup.add("abcabcabdabc", stop={"max_new_tokens": 25})
    events = list(lookup)
    assert events[0].drafted == 0  # of the prefill
    assert sum(event.drafted for event in events) > sum(event.accepted for event in events) > 0


def drawn(seed: int, id: str, noise: str | None) -> str:
    session = decoder().session(1)
    session.add("abc", id=id, seed=seed, noise=noise, sampling=Sampling(temperature=1.0), stop=Stop(20))
    return "".join(event.text for event in session)


def test_requests_of_the_same_noise_and_seed_draw_the_same() -> None:
    assert drawn(1, "a", "same") == drawn(1, "b", "same") == drawn(1, "same", None)
    assert len({drawn(1, "a", None), drawn(1, "b", None), drawn(1, "a", "other"), drawn(2, "a", "same")}) == 4


def shown(shows: bool, stop: Stop) -> list[Event]:
    session = decoder().session(1)
    session.add("abc", stop=stop, shows=shows)
    return list(session)


@pytest.mark.parametrize("stop", [Stop(12), Stop(12, strings=("bh",)), Stop(12, past_end=True)])
def test_text_may_be_left_to_the_end(stop: Stop) -> None:
    results = [shown(shows, stop)[-1].result for shows in (True, False)]
    assert results[0] is not None and results[1] is not None
    assert (results[0].text, results[0].token_ids) == (results[1].text, results[1].token_ids)
    assert all(event.text == "" for event in shown(False, stop))


def test_text_may_be_left_to_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    [wanted] = [event.result for event in shown(False, Stop(12)) if event.result is not None]
    built = decoder()
    session, tokenizer = built.session(1), built.target.tokenizer
    monkeypatch.setattr(type(tokenizer), "decode", None)  # it cannot be called
    session.add("abc", id="0", shows=False, texts=False)
    [result] = [event.result for event in session if event.result is not None]
    assert (result.token_ids, result.text) == (wanted.token_ids, "")


def test_the_models_own_stop_tokens_end_an_answer_unless_it_goes_on() -> None:
    target = target_of()
    target.stop_token_ids = frozenset({0, 2})
    ended, gone_on = Decoder.of(target, PromptLookup(2, 1, 4), Coupled(), Stop(20)), {"past_end": True}
    texts = [result.token_ids for result in ended.generate(["abc"])]
    session = ended.session(1)
    session.add("abc", stop=gone_on)
    [result] = [event.result for event in session if event.result is not None]
    assert len(texts[0]) < len(result.token_ids) == 20 and result.token_ids[: len(texts[0])] == texts[0]


TOKENS = st.frozensets(st.integers(0, 7))


@settings(max_examples=25)
@given(own=TOKENS, others=TOKENS, past_end=st.booleans(), asked=st.none() | TOKENS)
def test_to_go_on_past_the_end_takes_away_the_models_own_stop_tokens_alone(
    own: frozenset[int], others: frozenset[int], past_end: bool, asked: frozenset[int] | None
) -> None:
    target = target_of()
    target.stop_token_ids = own
    default = Decoder.of(target, PromptLookup(2, 1, 4), Coupled(), Stop(token_ids=others, past_end=past_end)).stop
    changes = {"past_end": True} if asked is None else {"past_end": True, "token_ids": list(asked)}
    kept = others if past_end else others - own
    assert request_stop("0", changes, default, target).token_ids == (kept if asked is None else asked)
    assert request_stop("0", {"past_end": False}, default, target).token_ids == others | own


def test_noise_is_refused_where_seeds_are() -> None:
    with pytest.raises(InputError, match="cannot have a seed"):
        decoder(Rejection()).session(1).add("abc", seed=1, noise="x")
