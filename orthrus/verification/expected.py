"""The scores of which an answer's tokens are the argmax: the target's logits, processed, and the noise of the answer.

T: tokens of an answer, V: size of the vocabulary. It shares no code with the loop's own processing.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from orthrus.chance import gumbel, request_key
from orthrus.decoder import Decoder
from orthrus.reference.logits import NEVER, processed
from orthrus.reference.oracle import OracleAnswer, ending, sample
from orthrus.settings import Sampling
from orthrus.values import Result
from orthrus.verification.mismatch import NOTHING, Divergence, compare


def scores(decoder: Decoder, result: Result, logits: Tensor, start: int = 0) -> Tensor:
    """Return what the argmax is taken of for the answer's tokens from `start` on: [T, V], in the dtype of the logits.

    logits [T, V], float32 or float64. Above temperature 0 they are divided by it, and the noise is added: a difference
    of scores times the temperature is one of logits. Settings other than the temperature are applied token by token, on
    the CPU.
    """
    sampling, temperature = decoder.sampling, decoder.sampling.temperature
    if sampling != Sampling(temperature):
        return _one_by_one(decoder, result, logits, start)
    scaled = logits / temperature if temperature else logits.clone()
    early = max(0, decoder.stop.min_new_tokens - start)
    scaled[:early, sorted(decoder.stop.token_ids)] = NEVER
    if temperature:
        scaled += _noise_from(decoder, result, start, len(logits), logits.device).to(logits.dtype)
    return scaled


def unit(decoder: Decoder) -> float:
    """Return what a difference of scores is multiplied by to be one of logits."""
    return decoder.sampling.temperature or 1.0


def noise_of(decoder: Decoder, result: Result) -> Callable[[int], Tensor]:
    """Return from a position to the noise of the answer there [V]; zeros at temperature 0."""
    size = decoder.target.vocabulary_size
    if decoder.sampling.temperature == 0:
        return lambda position: torch.zeros(size)
    start = len(result.prompt_token_ids)
    return lambda position: _noise_from(decoder, result, position - start, 1, torch.device("cpu"))[0]


def oracle(decoder: Decoder, result: Result) -> list[Divergence]:
    """Return where the naive oracle, which decodes the prompt again token by token, says something else.

    Of exactly tied tokens the answer's own is as right as any.
    """
    again = sample(
        lambda tokens: decoder.target.logits(tokens, 1)[0].cpu(),
        result.prompt_token_ids,
        decoder.stop,
        noise_of(decoder, result),
        sampling=decoder.sampling,
        max_length=decoder.target.max_length,
        decode=_decode(decoder),
        ties=result.token_ids,
    )
    return compare(result, again, "oracle")


def wrong_end(decoder: Decoder, result: Result) -> list[Divergence]:
    """Return where the answer, its tokens granted, should have ended, if not where it does."""
    end = ending(
        result.prompt_token_ids,
        result.token_ids,
        decoder.stop,
        max_length=decoder.target.max_length,
        decode=_decode(decoder) if decoder.stop.strings else None,
    )
    if end is None:  # the answer should go on
        return [Divergence(result.id, len(result.token_ids), NOTHING, NOTHING, math.nan, "end")]
    return compare(result, OracleAnswer(result.token_ids[: end[0]], end[1]), "end")


def _decode(decoder: Decoder) -> Callable[[list[int]], str] | None:
    return decoder.target.tokenizer.decode if decoder.target.tokenizer else None


def _noise_from(decoder: Decoder, result: Result, start: int, count: int, device: torch.device) -> Tensor:
    """Return the noise of `count` tokens of the answer from `start` on: [count, V]."""
    key = torch.tensor([request_key(result.id)], device=device)
    positions = torch.arange(start, start + count, device=device) + len(result.prompt_token_ids)
    return gumbel(decoder.seed, key, positions[None], decoder.target.vocabulary_size)[0]


def _one_by_one(decoder: Decoder, result: Result, logits: Tensor, start: int) -> Tensor:
    noise, row_logits = noise_of(decoder, result), logits.double().cpu().clone()
    for row in range(len(row_logits)):
        position = start + row
        output = result.token_ids[:position]
        row_logits[row] = processed(row_logits[row], result.prompt_token_ids, output, decoder.stop, decoder.sampling)
        row_logits[row] += noise(len(result.prompt_token_ids) + position)
    return row_logits
