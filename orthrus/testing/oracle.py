"""Greedy decoding, written as plainly as it can be: no cache, no batch, no draft, one token at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from orthrus.types import FinishReason, Stop


@dataclass(frozen=True)
class OracleAnswer:
    """Hold the tokens of greedy decoding and why they end."""

    token_ids: tuple[int, ...]
    finish_reason: FinishReason


def greedy(
    next_logits: Callable[[list[int]], Tensor],
    prompt: Sequence[int],
    stop: Stop,
    *,
    max_length: int | None = None,
    decode: Callable[[list[int]], str] | None = None,
) -> OracleAnswer:
    """Return what greedy decoding gives: the definition that every decoder is held to.

    next_logits: from all tokens so far to the logits [V] of the next. max_length: the model's context, prompt and
    answer together. decode: tokens to text, where stop strings are to be found.
    """
    limit = stop.max_new_tokens if max_length is None else min(stop.max_new_tokens, max_length - len(prompt))
    output: list[int] = []
    while len(output) < limit:
        logits = next_logits([*prompt, *output]).clone()
        if len(output) < stop.min_new_tokens:
            logits[sorted(stop.token_ids)] = float("-inf")
        output.append(int(logits.argmax()))
        if decode and len(output) >= stop.min_new_tokens and _completes_string(output, stop.strings, decode):
            return OracleAnswer(tuple(output), "stop_string")
        if output[-1] in stop.token_ids:
            return OracleAnswer(tuple(output), "stop_token")
    return OracleAnswer(tuple(output), "length")


def _completes_string(output: list[int], strings: Sequence[str], decode: Callable[[list[int]], str]) -> bool:
    """Tell whether the last token completed a stop string."""
    before, text = (decode(tokens).rstrip("\ufffd") for tokens in (output[:-1], output))  # whole characters only
    return any(text.find(string, max(0, len(before) - len(string) + 1)) >= 0 for string in strings)
