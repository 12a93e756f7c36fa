"""Small sessions on a lookup table with a short context, for tests of what comes between their events."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice

import torch

from orthrus import Decoder, Drafter, Session, Stop, Target
from orthrus.reference.table import Letters, TableTarget
from orthrus_caches.dynamic import DynamicCache
from orthrus_drafters.prompt_lookup import PromptLookup
from support.sessions import Answered, Asked, decoder_of, note, random_request

LONGEST = 40  # tokens of prompt and answer
LETTERS = "abcdefgh"


def target_of() -> TableTarget:
    """Return a random table of two letters before the next."""
    table = torch.randn(8, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return TableTarget(table, DynamicCache(), tokenizer=Letters(LETTERS), max_length=LONGEST)


def session_of(target: Target, drafter: Drafter | None = None) -> Session:
    """Return a session of two rows with drafts."""
    return decoder_of(target, drafter or PromptLookup(2, 1, 4)).session(2)


def others(target: Target) -> list[Asked]:
    """Return requests of which some draw and some wait; the first goes on for long."""
    chooser = random.Random(2)
    drawn = [random_request(chooser, f"r{number}", target.vocabulary_size, LETTERS) for number in range(4)]
    return [replace(drawn[0], stop=Stop(20, 20)), *drawn[1:]]


def add(session: Session, request: Asked) -> None:
    """Add a request with all its settings."""
    session.add(
        request.prompt,
        id=request.id,
        stop=request.stop,
        sampling=request.sampling,
        seed=request.seed,
        logprobs=request.logprobs,
    )


def begun(session: Session, requests: Sequence[Asked], events: int = 3) -> dict[str, Answered]:
    """Add requests and return what their first events say."""
    answers = {request.id: Answered() for request in requests}
    for request in requests:
        add(session, request)
    for event in islice(session, events):
        note(answers[event.id], event)
    return answers


def finish(session: Session, answers: dict[str, Answered]) -> None:
    """Add what the events say until no request goes on."""
    for event in session:
        note(answers[event.id], event)


def generated(decoder: Decoder, prompts: Sequence[Sequence[int]]) -> list[tuple[int, ...]]:
    """Return the tokens of each answer."""
    return [result.token_ids for result in decoder.generate(prompts, batch=2)]
