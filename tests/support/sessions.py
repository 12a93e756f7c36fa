"""Sessions of many requests that differ in all settings, come at random, and are held to the oracle one by one."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from orthrus import Chance, Decoder, Drafter, Event, Result, Sampling, Session, Stop, Target
from orthrus.chance import request_key
from orthrus.testing import OracleAnswer, greedy, sample
from orthrus_verifiers.coupled import Coupled
from support.building import logits_along

SEED = 5


@dataclass(frozen=True)
class Asked:
    """A request of a session, as `Session.add` takes it."""

    id: str
    prompt: list[int]
    stop: Stop
    sampling: Sampling
    seed: int | None
    logprobs: int | None


@dataclass
class Answered:
    """What the events of a request said."""

    tokens: list[int] = field(default_factory=list)
    text: str = ""
    scores: list[Any] = field(default_factory=list)
    result: Result | None = None
    cancelled: bool = False


def random_request(chooser: random.Random, id: str, vocabulary: int, letters: str = "", longest: int = 12) -> Asked:
    """Return a request with each setting on or off. letters: of stop strings; without, there are none."""
    most = chooser.choice([0, 1, 2, 5, 9, 16])
    count = chooser.randint(0, 2) if letters else 0
    strings = ["".join(chooser.choices(letters, k=chooser.randint(1, 3))) for _ in range(count)]

    def maybe(value: Any, off: Any) -> Any:
        return value if chooser.random() < 0.3 else off

    return Asked(
        id,
        [chooser.randrange(vocabulary) for _ in range(chooser.randint(1, longest))],
        Stop(
            most,
            chooser.randint(0, most),
            frozenset(chooser.sample(range(vocabulary), chooser.randint(0, 2))),
            tuple(maybe(strings, [])),
        ),
        Sampling(
            temperature=chooser.choice([0.0, 0.0, 0.5, 1.0, 1.7]),
            top_k=maybe(chooser.randint(1, vocabulary), None),
            top_p=maybe(chooser.uniform(0.1, 0.9), 1.0),
            min_p=maybe(chooser.uniform(0.05, 0.5), 0.0),
            repetition_penalty=maybe(chooser.uniform(0.6, 1.8), 1.0),
            presence_penalty=maybe(chooser.uniform(-1, 1), 0.0),
            frequency_penalty=maybe(chooser.uniform(-1, 1), 0.0),
            logit_bias=maybe({chooser.randrange(vocabulary): chooser.uniform(-2, 2)}, {}),
            bad_words=maybe(((chooser.randrange(vocabulary),) * chooser.randint(1, 2),), ()),
        ),
        maybe(chooser.randint(-(2**63), 2**63 - 1), None),
        maybe(chooser.randint(0, 3), None),
    )


def decoder_of(target: Target, drafter: Drafter) -> Decoder:
    """Return a decoder whose own settings differ from those of most requests."""
    return Decoder.of(target, drafter, Coupled(), Stop(3), SEED)


def decoded(
    session: Session, requests: Sequence[Asked], chooser: random.Random, cancelled: float = 0.1
) -> dict[str, Answered]:
    """Return what the events said, with requests that come between events, and some that are cancelled."""
    answers = {request.id: Answered() for request in requests}
    waiting, events = list(requests), iter(session)
    while waiting or session.pending:
        for request in waiting[: chooser.randint(0, 4)]:
            waiting.remove(request)
            settings = {"stop": request.stop, "sampling": request.sampling, "seed": request.seed}
            session.add(request.prompt, id=request.id, logprobs=request.logprobs, **settings)  # type: ignore[arg-type]
        going = [id for id, answer in answers.items() if answer.result is None and id in session]
        if going and chooser.random() < cancelled:
            session.cancel(chosen := chooser.choice(going))
            answers[chosen].cancelled = True
        for _ in range(chooser.randint(0, 6)):
            if (event := next(events, None)) is None:
                events = iter(session)
                break
            note(answers[event.id], event)
    for event in session:  # those that nobody has asked for yet
        note(answers[event.id], event)
    return answers


def note(answer: Answered, event: Event) -> None:
    """Add an event to what a request's events said."""
    assert answer.result is None, "nothing follows a result"
    answer.tokens += event.token_ids
    answer.text += event.text
    answer.scores += event.scores or ()
    answer.result = event.result


def oracle(target: Target, request: Asked, expected: Sequence[int] = ()) -> OracleAnswer:
    """Return the answer of a request alone, by the naive oracle over the target's cache-free logits.

    expected: the answer that it may be, which saves passes.
    """
    logits = logits_along(target.logits, request.prompt, expected)
    decode = target.tokenizer.decode if target.tokenizer else None
    if request.sampling.temperature == 0:
        return greedy(
            logits, request.prompt, request.stop, sampling=request.sampling, max_length=target.max_length, decode=decode
        )
    chance = Chance(SEED if request.seed is None else request.seed, target.device)
    key = torch.tensor([request_key(request.id)], device=target.device)

    def noise(position: int) -> Tensor:
        positions = torch.tensor([[position]], device=target.device)
        return chance.gumbel(key, positions, target.vocabulary_size)[0, 0]

    settings = {"sampling": request.sampling, "max_length": target.max_length, "decode": decode}
    return sample(logits, request.prompt, request.stop, noise, **settings)  # type: ignore[arg-type]


def assert_alone(
    target: Target,
    request: Asked,
    answer: Answered,
    truth: Callable[..., OracleAnswer] = oracle,
    tolerance: float = 1e-4,
) -> None:
    """Assert that a request got what it gets alone, or its beginning if it was cancelled, text and scores too."""
    result = answer.result
    assert result is not None
    wanted = truth(target, request, result.token_ids)
    if answer.cancelled and result.finish_reason == "cancelled":
        assert result.token_ids == wanted.token_ids[: len(result.token_ids)], request
    else:
        assert (result.token_ids, result.finish_reason) == (wanted.token_ids, wanted.finish_reason), request
    assert tuple(answer.tokens) == result.token_ids[: len(answer.tokens)]
    if target.tokenizer is not None:
        assert answer.text == result.text, request
    _assert_scores(target, request, answer, result, tolerance)


def _assert_scores(target: Target, request: Asked, answer: Answered, result: Result, tolerance: float) -> None:
    if request.logprobs is None:
        assert result.scores is None and not answer.scores
        return
    assert result.scores is not None and len(result.scores) == len(result.token_ids)
    if not result.token_ids:
        return
    logits = target.logits([*request.prompt, *result.token_ids], len(result.token_ids) + 1)[:-1]
    own = logits.double().log_softmax(-1)
    for scores, token, row in zip(result.scores, result.token_ids, own, strict=True):
        assert abs(scores.chosen - float(row[token])) < tolerance
        assert len(scores.likeliest) == request.logprobs
        best = row.topk(request.logprobs).values.tolist()
        for (likely, score), value in zip(scores.likeliest, best, strict=True):
            assert abs(score - value) < tolerance and abs(float(row[likely]) - value) < tolerance
