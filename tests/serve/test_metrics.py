"""Metrics: what was decoded is counted, under vLLM's names, too, if asked for; pieces are joined only under load."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from support.serving import decoder_of, serving

from orthrus import Event, Step, Tally
from orthrus_serve.decoding.inbox import Encoded
from orthrus_serve.decoding.messages import Generate, News
from orthrus_serve.decoding.outbox import Outbox
from orthrus_serve.decoding.token_texts import TokenTexts


def test_what_is_decoded_is_counted() -> None:
    with serving(vllm_metrics=True) as served:
        answers = [served.completion("abcabdabc", max_tokens=40) for _ in range(3)]
        details = [answer["usage"]["completion_tokens_details"] for answer in answers]
        accepted = sum(detail["accepted_prediction_tokens"] for detail in details)
        rejected = sum(detail["rejected_prediction_tokens"] for detail in details)
        for prefix in ("orthrus_", "vllm:"):
            figures = {
                "prompt_tokens_total": 27,
                "generation_tokens_total": 120,
                "request_success_total": 3,
                "spec_decode_num_accepted_tokens_total": accepted,
                "spec_decode_num_accepted_tokens_per_pos_total": accepted,
                "spec_decode_num_draft_tokens_total": accepted + rejected,
                "time_to_first_token_seconds_count": 3,
                "e2e_request_latency_seconds_count": 3,
                "num_requests_running": 0,
                "kv_cache_usage_perc": 0,
            }
            assert {name: served.figure(prefix + name) for name in figures} == figures
            assert 0 < served.figure(f"{prefix}spec_decode_num_drafts_total") <= accepted + rejected
            assert served.figure(f"{prefix}inter_token_latency_seconds_count") > 3
            assert served.figure(f"{prefix}kv_cache_bytes") > 0
    with serving() as served:
        assert "vllm:" not in served.client.get("/metrics").text


def refuse(id: str, error: Exception) -> None:
    raise error


class Clock:
    """A clock that the test turns."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(("answers", "joined"), [(1, False), (4, False), (5, True), (64, True)])
def test_pieces_are_joined_only_where_there_are_many_answers(answers: int, joined: bool) -> None:
    sent: list[News] = []
    clock, tally = Clock(), Tally()
    outbox = Outbox(sent.append, lambda: False, TokenTexts(None), refuse, tally, clock)  # type: ignore[arg-type]
    for number in range(answers):
        outbox.begin(Encoded(Generate(str(number), "a", streams=True), (0,), 0.0))
    for _ in range(40):
        clock.now += 0.0051
        outbox.note(events(answers))
        tally.add(step(answers))
        outbox.flush(answers, 0, lambda: (0, 0))
    assert len(sent) == (10 if joined else 40)
    pieces = [piece for news in sent for piece in news.pieces]
    assert sum(piece.tokens for piece in pieces) == 40 * answers
    assert "".join(piece.text for piece in pieces if piece.id == "0") == "x" * 40
    told = [news.statistics for news in sent if news.statistics is not None]
    assert 1 <= len(told) <= 2  # of 0.2 s
    for number in range(answers):
        outbox.forget(str(number))
    outbox.flush(0, 0, lambda: (0, 0))
    last = sent[-1].statistics
    assert last is not None and last.running == 0
    assert sum(statistics.generated_tokens for statistics in [*told, last]) == 40 * answers


def events(count: int) -> Sequence[Event]:
    """Return an event of one token for each answer."""
    return [Event(str(number), (1,), ("x",)) for number in range(count)]


def step(count: int) -> Step:
    """Return a cycle in which each answer came to one token."""
    ones = torch.ones(count, dtype=torch.long)
    return Step(1, (), ones, ((1,),) * count, (0,) * count, (None,) * count, 1)


def test_nothing_is_sent_of_answers_that_are_not_streamed_or_were_forgotten() -> None:
    sent: list[News] = []
    clock, tally = Clock(), Tally()
    outbox = Outbox(sent.append, lambda: False, TokenTexts(None), refuse, tally, clock)  # type: ignore[arg-type]
    outbox.begin(Encoded(Generate("0", "a"), (0,), 0.0))
    outbox.begin(Encoded(Generate("1", "a", streams=True), (0,), 0.0))
    outbox.note(events(2))
    outbox.forget("1")
    clock.now = 1.0
    outbox.flush(1, 0, lambda: (0, 0))
    assert [news.pieces for news in sent] == [()]
    assert decoder_of().session().advance() == []
