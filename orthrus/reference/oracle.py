"""Decoding written as plainly as it can be: no cache, no batch, no draft, one token at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from orthrus.reference.logits import processed
from orthrus.settings import Sampling, Stop
from orthrus.values import FinishReason

NextLogits = Callable[[list[int]], Tensor]
Decode = Callable[[list[int]], str]


@dataclass(frozen=True)
class OracleAnswer:
    """The tokens of one answer and why they end."""

    token_ids: tuple[int, ...]
    finish_reason: FinishReason


def greedy(
    next_logits: NextLogits,
    prompt: Sequence[int],
    stop: Stop,
    *,
    sampling: Sampling | None = None,
    max_length: int | None = None,
    decode: Decode | None = None,
) -> OracleAnswer:
    """Return what greedy decoding gives: the definition that every decoder is held to.

    next_logits: from all tokens so far to the logits [V] of the next. sampling: penalties, bias and bad words (as token
    ids). max_length: the model's context, prompt and answer together. decode: tokens to text, where stop strings are to
    be found.
    """
    return _answer(next_logits, prompt, stop, sampling, max_length, decode, noise=None)


def sample(
    next_logits: NextLogits,
    prompt: Sequence[int],
    stop: Stop,
    noise: Callable[[int], Tensor],
    *,
    sampling: Sampling,
    max_length: int | None = None,
    decode: Decode | None = None,
    ties: Sequence[int] = (),
) -> OracleAnswer:
    """Return the sample that this noise decides: each token is the argmax of its processed logits plus noise.

    noise: from the position of a token, the prompt counted, to Gumbel noise [V]. ties: an answer whose token is taken
    where it is exactly as high as the highest; otherwise the first of them is.
    """
    return _answer(next_logits, prompt, stop, sampling, max_length, decode, noise, ties)


def every_answer(
    next_logits: NextLogits,
    prompt: Sequence[int],
    stop: Stop,
    *,
    sampling: Sampling,
    max_length: int | None = None,
    decode: Decode | None = None,
) -> dict[OracleAnswer, float]:
    """Return every answer that sampling may give, with its exact probability; made for tiny vocabularies and limits."""
    distribution: dict[OracleAnswer, float] = {}
    limit = _limit(prompt, stop, max_length)
    waiting: list[tuple[list[int], float]] = [([], 1.0)]
    while waiting:
        output, weight = waiting.pop()
        if reason := _finish_reason(output, stop, limit, decode):
            distribution[OracleAnswer(tuple(output), reason)] = weight
            continue
        logits = processed(next_logits([*prompt, *output]), prompt, output, stop, sampling)
        for token, probability in _chances(logits, sampling).items():
            waiting.append(([*output, token], weight * probability))
    return distribution


def ending(
    prompt: Sequence[int],
    output: Sequence[int],
    stop: Stop,
    *,
    max_length: int | None = None,
    decode: Decode | None = None,
) -> tuple[int, FinishReason] | None:
    """Return after how many tokens an answer that begins like this ends, and why; None if it goes on."""
    limit = _limit(prompt, stop, max_length)
    for length in range(len(output) + 1):
        if reason := _finish_reason(list(output[:length]), stop, limit, decode):
            return length, reason
    return None


def _answer(
    next_logits: NextLogits,
    prompt: Sequence[int],
    stop: Stop,
    sampling: Sampling | None,
    max_length: int | None,
    decode: Decode | None,
    noise: Callable[[int], Tensor] | None,
    ties: Sequence[int] = (),
) -> OracleAnswer:
    output: list[int] = []
    limit = _limit(prompt, stop, max_length)
    while not (reason := _finish_reason(output, stop, limit, decode)):
        logits = processed(next_logits([*prompt, *output]), prompt, output, stop, sampling or Sampling())
        scores = logits if noise is None else logits + noise(len(prompt) + len(output))
        output.append(_highest(scores, ties[len(output) : len(output) + 1]))
    return OracleAnswer(tuple(output), reason)


def _highest(scores: Tensor, candidates: Sequence[int]) -> int:
    """Return the token that is wanted if it is among the highest, or the first of those."""
    highest = scores.max()
    return next((token for token in candidates if bool(scores[token] == highest)), int(scores.argmax()))


def _chances(logits: Tensor, sampling: Sampling) -> dict[int, float]:
    """Return the tokens that may come next, each with its probability."""
    if sampling.temperature == 0:
        return {int(logits.argmax()): 1.0}
    return {token: probability for token, probability in enumerate(logits.softmax(-1).tolist()) if probability > 0}


def _limit(prompt: Sequence[int], stop: Stop, max_length: int | None) -> int:
    return stop.max_new_tokens if max_length is None else min(stop.max_new_tokens, max_length - len(prompt))


def _finish_reason(output: list[int], stop: Stop, limit: int, decode: Decode | None) -> FinishReason | None:
    if output and decode and len(output) >= stop.min_new_tokens and completes_string(output, stop.strings, decode):
        return "stop_string"
    if output and output[-1] in stop.token_ids:
        return "stop_token"
    return "length" if len(output) >= limit else None


def completes_string(output: list[int], strings: Sequence[str], decode: Decode) -> bool:
    """Tell whether the last token completed a stop string."""
    before, text = (decode(tokens).rstrip("\ufffd") for tokens in (output[:-1], output))  # whole characters only
    return any(text.find(string, max(0, len(before) - len(string) + 1)) >= 0 for string in strings)
