"""Holds answers against the target itself: every token against the argmax before it, some against the naive oracle.

Checking every token of an answer against the argmax of the logits teacher-forced over that answer is, by induction,
checking that it is what greedy decoding gives. Coupled sampling is checked alike: its noise is added to the logits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from orthrus.decoder import Decoder
from orthrus.errors import InputError
from orthrus.noise import gumbel, request_key
from orthrus.testing.oracle import OracleAnswer, sample
from orthrus.testing.processors import processed
from orthrus.types import Result, Sampling


@dataclass(frozen=True)
class Divergence:
    """Hold one token that is not the target's: its place in the answer, the target's token, and by how much."""

    id: str
    position: int
    token: int
    expected: int
    gap: float  # logit of the expected token minus logit of the token; null where there is no logit to compare
    check: str  # `teacher_forced`, `end` (the answer ends elsewhere than it should) or `oracle`


@dataclass(frozen=True)
class Verification:
    """Hold the outcome of verifying some answers."""

    total: int
    identical: int
    tokens: int
    oracle_checked: int
    divergences: tuple[Divergence, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object that `orthrus verify --json` prints."""
        return asdict(self) | {"divergences": [asdict(one) for one in self.divergences]}


def verify(
    decoder: Decoder,
    results: Sequence[Result],
    oracle_sample: int = 2,
    progress: Callable[[Result], None] = lambda result: None,
) -> Verification:
    """Return how many answers are, token by token, those of greedy decoding or of coupled sampling.

    Every answer is checked in one teacher-forced pass; an evenly spread sample is decoded again by the naive oracle.
    Raises InputError for other sampling, where no text is the right one.
    """
    check_verifiable(decoder)
    replayed = _spread(len(results), oracle_sample)
    found: list[list[Divergence]] = []
    for index, result in enumerate(results):
        found.append(_check(decoder, result, with_oracle=index in replayed))
        progress(result)
    return Verification(
        total=len(results),
        identical=sum(not divergences for divergences in found),
        tokens=sum(len(result.token_ids) for result in results),
        oracle_checked=len(replayed),
        divergences=tuple(one for divergences in found for one in divergences),
    )


def check_verifiable(decoder: Decoder) -> None:
    """Raise InputError if nothing decides which text is right: sampling whose noise cannot be asked for again."""
    temperature = decoder.sampling.temperature
    if temperature > 0 and not getattr(decoder.verifier, "coupled", False):
        raise InputError(
            f"only greedy decoding and coupled sampling can be verified: sampling.temperature is {temperature:g},"
            f" and verifier '{type(decoder.verifier).__name__}' draws anew each time"
        )


def _check(decoder: Decoder, result: Result, with_oracle: bool) -> list[Divergence]:
    logits = decoder.target.logits([*result.prompt_token_ids, *result.token_ids], len(result.token_ids) + 1)
    divergences = _teacher_forced(decoder, result, logits)
    if not divergences:
        start = len(result.prompt_token_ids)
        replay = _oracle(decoder, result, lambda tokens: logits[min(len(tokens) - start, len(result.token_ids))])
        divergences = _compare(result, replay, "end")
    if not divergences and with_oracle:
        again = _oracle(decoder, result, lambda tokens: decoder.target.logits(tokens, 1)[0])
        divergences = _compare(result, again, "oracle")
    return divergences


def _teacher_forced(decoder: Decoder, result: Result, logits: Tensor) -> list[Divergence]:
    logits = _scores(decoder, result, logits[: len(result.token_ids)])  # [T, V]
    expected = logits.argmax(-1)
    tokens = torch.tensor(result.token_ids, dtype=torch.int64, device=logits.device)
    return [
        Divergence(
            id=result.id,
            position=int(place),
            token=int(tokens[place]),
            expected=int(expected[place]),
            gap=float(logits[place, expected[place]] - logits[place, tokens[place]]),
            check="teacher_forced",
        )
        for place in (tokens != expected).nonzero()[:, 0].tolist()
    ]


def _scores(decoder: Decoder, result: Result, logits: Tensor) -> Tensor:
    """Return what the argmax is taken of, [T, V] in float64: logits, processed, and the noise of the answer."""
    if decoder.sampling == Sampling():
        scores = logits.double().clone()
        scores[: decoder.stop.min_new_tokens, sorted(decoder.stop.token_ids)] = float("-inf")
        return scores
    noise, scores = _noise(decoder, result), logits.double().cpu().clone()
    for place in range(len(scores)):
        output = result.token_ids[:place]
        scores[place] = processed(scores[place], result.prompt_token_ids, output, decoder.stop, decoder.sampling)
        scores[place] += noise(len(result.prompt_token_ids) + place)
    return scores


def _noise(decoder: Decoder, result: Result) -> Callable[[int], Tensor]:
    """Return from a position to the noise of the answer there [V]; zeros at temperature 0."""
    key, size = torch.tensor([request_key(result.id)]), decoder.target.vocabulary_size
    if decoder.sampling.temperature == 0:
        return lambda position: torch.zeros(size)
    return lambda position: gumbel(decoder.seed, key, torch.tensor([[position]]), size)[0, 0]


def _oracle(decoder: Decoder, result: Result, next_logits: Callable[[list[int]], Tensor]) -> OracleAnswer:
    tokenizer = decoder.target.tokenizer
    return sample(
        lambda tokens: next_logits(tokens).cpu(),
        result.prompt_token_ids,
        decoder.stop,
        _noise(decoder, result),
        sampling=decoder.sampling,
        max_length=decoder.target.max_length,
        decode=tokenizer.decode if tokenizer else None,
    )


def _compare(result: Result, answer: OracleAnswer, check: str) -> list[Divergence]:
    if answer.token_ids == result.token_ids and answer.finish_reason == result.finish_reason:
        return []
    pairs = zip(result.token_ids, answer.token_ids, strict=False)
    shorter = min(len(result.token_ids), len(answer.token_ids))
    place = next((i for i, (one, other) in enumerate(pairs) if one != other), shorter)
    return [
        Divergence(result.id, place, _at(result.token_ids, place), _at(answer.token_ids, place), float("nan"), check)
    ]


def _at(tokens: Sequence[int], place: int) -> int:
    return tokens[place] if place < len(tokens) else -1


def _spread(total: int, wanted: int) -> set[int]:
    count = min(total, wanted)
    return {index * total // count for index in range(count)} if count else set()
