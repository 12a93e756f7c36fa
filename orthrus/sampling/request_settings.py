"""Settings of one request of a session, checked against the decoder's parts."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

from orthrus.errors import BuildError, InputError
from orthrus.interfaces import Target, Verifier
from orthrus.optional import is_coupled
from orthrus.options import parse
from orthrus.sampling.resolve import resolve_sampling, resolve_stop
from orthrus.settings import Sampling, Stop

S = TypeVar("S", Stop, Sampling)
SEEDS = range(-(2**63), 2**64)


def request_stop(id: str, given: Stop | Mapping[str, Any] | None, default: Stop, target: Target) -> Stop:
    """Return the limits of a request: given ones, or the default with some changed; raise InputError if they are wrong.

    The target's own stop tokens are among them, unless `past_end` is. default: the decoder's, which are resolved.
    """
    if given is None:
        return default
    if isinstance(given, Mapping) and given.get("past_end") is True and not default.past_end:
        default = dataclasses.replace(default, token_ids=default.token_ids - target.stop_token_ids)
    with _of_request(id):
        return resolve_stop(_settings(id, "stop", Stop, given, default), target)


def request_sampling(
    id: str, given: Sampling | Mapping[str, Any] | None, default: Sampling, target: Target, verifier: Verifier
) -> Sampling:
    """Return the sampling settings of a request; raise InputError if they are wrong, or the verifier cannot draw."""
    if given is None:
        return default
    with _of_request(id):
        sampling = resolve_sampling(_settings(id, "sampling", Sampling, given, default), target)
    if verifier.greedy and sampling.temperature > 0:
        raise InputError(
            f"request '{id}': sampling.temperature must be 0, not {sampling.temperature:g}: this decoder's verifier"
            f" '{type(verifier).__name__}' decodes greedily"
        )
    return sampling


def check_seed(id: str, seed: int | None, verifier: Verifier) -> None:
    """Raise InputError for a seed that is no integer of 64 bits, or that the verifier would not draw with."""
    if seed is None:
        return
    if isinstance(seed, bool) or not isinstance(seed, int) or seed not in SEEDS:
        raise InputError(f"request '{id}': the seed must be an integer of 64 bits, not {seed!r}")
    if not verifier.greedy and not is_coupled(verifier):
        raise InputError(
            f"request '{id}': a request cannot have a seed with the verifier '{type(verifier).__name__}', whose"
            " draws all requests share; name the verifier 'coupled'"
        )


def check_logprobs(id: str, count: int | None, vocabulary_size: int) -> None:
    """Raise InputError unless a number of likeliest tokens is None or within the vocabulary."""
    if count is None:
        return
    if isinstance(count, bool) or not isinstance(count, int) or not 0 <= count <= vocabulary_size:
        raise InputError(f"request '{id}': logprobs must be None, or from 0 to {vocabulary_size}, not {count!r}")


def _settings(id: str, section: str, schema: type[S], given: S | Mapping[str, Any], default: S) -> S:
    values = {field.name: getattr(default, field.name) for field in dataclasses.fields(schema)}
    if isinstance(given, schema):
        values = {field.name: getattr(given, field.name) for field in dataclasses.fields(schema)}
    elif isinstance(given, Mapping):
        values |= given
    else:
        raise InputError(f"request '{id}': {section} must be a {schema.__name__} or a mapping, not {given!r}")
    checked, problems = parse(schema, {key: _plain(value) for key, value in values.items()})
    if problems:
        raise InputError("; ".join(f"request '{id}': {section}.{key}: {problem}" for key, problem in problems))
    settings: S = checked
    return settings


def _plain(value: Any) -> Any:
    return dict(value) if isinstance(value, Mapping) else value


@contextmanager
def _of_request(id: str) -> Iterator[None]:
    try:
        yield
    except BuildError as error:
        raise InputError(f"request '{id}': {error}") from error
