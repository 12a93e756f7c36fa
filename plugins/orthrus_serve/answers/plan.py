"""The plan of an answer: a request, checked against the model, as the requests of its choices."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from orthrus import Prompt
from orthrus_serve.decoding.messages import Generate, Model
from orthrus_serve.errors import refused
from orthrus_serve.wire.shared import AnswerRequest


@dataclass(frozen=True)
class Plan:
    """What is decoded for a request, and how it is sent; created: seconds since 1970."""

    id: str
    created: int
    model: str
    requests: tuple[Generate, ...]
    stream: bool
    usage_at_end: bool
    usage_always: bool
    metrics: bool


def make_plan(
    asked: AnswerRequest, prompts: Sequence[Prompt], model: Model, id: str, *, chat: bool, echo: bool = False
) -> Plan:
    """Return the plan of an id that no other has; raise ApiError for what the model or its verifier cannot do.

    Choice i is choice i % n of prompt i // n. With a seed its noise is keyed by its number among the choices of its
    prompt alone, so that the same seed gives the same text whoever else asks, and however many prompts there are.
    """
    _check(asked, model)
    options = asked.stream_options
    settings = Generate(
        id,
        "",
        chat=chat,
        stop=_stop(asked),
        sampling=_sampling(asked),
        seed=asked.seed,
        logprobs=asked.likeliest,
        echo=echo,
        streams=bool(asked.stream),
        drafts=bool(asked.return_drafts),
    )
    requests = [
        replace(settings, id=f"{id}-{number}-{choice}", prompt=prompt, noise=_noise(asked, choice))
        for number, prompt in enumerate(prompts)
        for choice in range(asked.n or 1)
    ]
    return Plan(
        id,
        int(time.time()),
        asked.model,
        tuple(requests),
        stream=bool(asked.stream),
        usage_at_end=options is not None and bool(options.include_usage),
        usage_always=options is not None and bool(options.continuous_usage_stats),
        metrics=bool(asked.return_metrics),
    )


def _noise(asked: AnswerRequest, choice: int) -> str | None:
    return None if asked.seed is None else str(choice)


def _check(asked: AnswerRequest, model: Model) -> None:
    if model.greedy and asked.temperature:
        raise refused(
            f"'temperature' must be 0, not {asked.temperature:g}: the server's verifier decodes greedily; one that"
            " samples is served with verifier.name=coupled",
            "temperature",
        )
    if not model.seeded and asked.seed is not None:
        raise refused(
            "'seed' is not supported by the server's verifier, whose draws all requests share; one that draws by seed"
            " is served with verifier.name=coupled",
            "seed",
        )
    size = model.vocabulary_size
    for name, tokens in (("logit_bias", _biases(asked)), ("stop_token_ids", asked.stop_token_ids or ())):
        foreign = [token for token in tokens if not 0 <= token < size]
        if foreign:
            raise refused(f"'{name}': {foreign[0]} is no token of the model; there are {size}", name)


def _biases(asked: AnswerRequest) -> Mapping[int, float]:
    """Return the biases by token; raise ApiError for a key that is no number."""
    keys = asked.logit_bias or {}
    wrong = [key for key in keys if not (key.isascii() and key.isdigit() and len(key) < 10)]
    if wrong:
        raise refused(f"'logit_bias': {wrong[0][:40]!r} is no token id", "logit_bias")
    return {int(key): bias for key, bias in keys.items()}


def _stop(asked: AnswerRequest) -> dict[str, Any]:
    """Return the limits that differ from the config's."""
    given = {
        "max_new_tokens": asked.limit,
        "min_new_tokens": asked.min_tokens,
        "strings": asked.stops if asked.stop is not None else None,
        "token_ids": asked.stop_token_ids,
        "past_end": asked.ignore_eos,
    }
    return {name: value for name, value in given.items() if value is not None}


def _sampling(asked: AnswerRequest) -> dict[str, Any]:
    """Return the settings of sampling that differ from the config's."""
    given = {
        "temperature": asked.temperature,
        "top_p": asked.top_p,
        "min_p": asked.min_p,
        "presence_penalty": asked.presence_penalty,
        "frequency_penalty": asked.frequency_penalty,
        "repetition_penalty": asked.repetition_penalty,
        "logit_bias": _biases(asked) or None,
        "bad_words": asked.bad_words,
    }
    cut = {} if asked.top_k is None else {"top_k": asked.top_k if asked.top_k > 0 else None}
    return {name: value for name, value in given.items() if value is not None} | cut
