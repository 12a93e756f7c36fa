"""Logits processors of transformers as the sampling settings of Orthrus that equal them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor
from transformers import (
    MinLengthLogitsProcessor,
    MinNewTokensLengthLogitsProcessor,
    MinPLogitsWarper,
    NoBadWordsLogitsProcessor,
    RepetitionPenaltyLogitsProcessor,
    SequenceBiasLogitsProcessor,
    SuppressTokensLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from orthrus import InputError


@dataclass(frozen=True)
class Rows:
    """The rows of a batch, as processors see them; padding: of each row, width: columns of the prompts."""

    padding: Sequence[int]
    width: int
    stop_token_ids: frozenset[int]


@dataclass(frozen=True)
class Settings:
    """The settings that processors stand for: fields of `Sampling`, and `min_new_tokens` of `Stop`."""

    sampling: Mapping[str, Any] = field(default_factory=dict)
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    bad_words: tuple[tuple[int, ...], ...] = ()
    min_new_tokens: int = 0

    def __or__(self, other: Settings) -> Settings:
        """Return both together."""
        biased = self.logit_bias.keys() | other.logit_bias.keys()
        return Settings(
            {**self.sampling, **other.sampling},
            {token: self.logit_bias.get(token, 0.0) + other.logit_bias.get(token, 0.0) for token in biased},
            self.bad_words + other.bad_words,
            max(self.min_new_tokens, other.min_new_tokens),
        )


def _sequence_bias(processor: Any, rows: Rows) -> Settings:
    longer = {tokens: bias for tokens, bias in processor.sequence_bias.items() if len(tokens) > 1}
    finite = next((tokens for tokens, bias in longer.items() if bias != -math.inf), None)
    if finite is not None:
        raise InputError(f"sequence_bias: {finite} has several tokens; Orthrus adds to the logits of single ones only")
    _check_words(longer, rows)
    single = {tokens[0]: bias for tokens, bias in processor.sequence_bias.items() if len(tokens) == 1}
    return Settings(logit_bias=single, bad_words=tuple(longer))


def _check_words(words: Mapping[tuple[int, ...], float], rows: Rows) -> None:
    """Raise InputError if the tokens before a word's last one may lie in the padding: they are compared there, too."""
    longest = max(map(len, words), default=1) - 1
    shortest = min((rows.width - count for count in rows.padding if count), default=longest)
    if shortest < longest:
        raise InputError(
            f"bad_words_ids: a word of {longest + 1} tokens may reach into the padding of a prompt of {shortest};"
            " give that prompt in a batch of its own"
        )


def _repetition_penalty(processor: Any, rows: Rows) -> Settings:
    ignored = processor.prompt_ignore_length
    padding = ignored.tolist() if isinstance(ignored, Tensor) else [ignored or 0] * len(rows.padding)
    if padding != list(rows.padding):
        raise InputError(
            f"repetition_penalty: it counts each row's tokens from column {padding} on, and Orthrus those after the"
            f" padding, from {list(rows.padding)} on; give prompts of one length, so that none is padded"
        )
    return Settings({"repetition_penalty": processor.penalty})


def _suppress(processor: Any, rows: Rows) -> Settings:
    return Settings(logit_bias=dict.fromkeys(processor.suppress_tokens.tolist(), -math.inf))


def _min_length(processor: Any, rows: Rows) -> Settings:
    return _min_new_tokens(processor, rows, processor.min_length - rows.width)


def _min_new(processor: Any, rows: Rows) -> Settings:
    return _min_new_tokens(processor, rows, processor.min_new_tokens + processor.prompt_length_to_skip - rows.width)


def _min_new_tokens(processor: Any, rows: Rows, count: int) -> Settings:
    held_back = frozenset(processor.eos_token_id.tolist())
    if count > 0 and held_back != rows.stop_token_ids:
        raise InputError(
            f"{type(processor).__name__} holds back the tokens {sorted(held_back)}, and answers end at"
            f" {sorted(rows.stop_token_ids)}; they must be the same"
        )
    return Settings(min_new_tokens=max(0, count))


def _warper(name: str) -> Callable[[Any, Rows], Settings]:
    def read(processor: Any, rows: Rows) -> Settings:
        if getattr(processor, "min_tokens_to_keep", 1) != 1:
            raise InputError(f"{name}: Orthrus keeps one token at least, not {processor.min_tokens_to_keep}")
        return Settings({name: getattr(processor, name)})

    return read


Read = Callable[[Any, Rows], Settings]
# In the order in which Orthrus applies them. What forbids tokens gives the same before and after the first ones.
FIRST: Mapping[type, Read] = {
    SequenceBiasLogitsProcessor: _sequence_bias,
    RepetitionPenaltyLogitsProcessor: _repetition_penalty,
}
FORBIDDING: Mapping[type, Read] = {
    NoBadWordsLogitsProcessor: _sequence_bias,
    MinLengthLogitsProcessor: _min_length,
    MinNewTokensLengthLogitsProcessor: _min_new,
    SuppressTokensLogitsProcessor: _suppress,
}
WARPERS: Mapping[type, Read] = {
    TemperatureLogitsWarper: _warper("temperature"),
    TopKLogitsWarper: _warper("top_k"),
    TopPLogitsWarper: _warper("top_p"),
    MinPLogitsWarper: _warper("min_p"),
}
READERS = {**FIRST, **FORBIDDING, **WARPERS}
ORDER = [*FIRST, *WARPERS]


def read_processors(processors: Sequence[Any], rows: Rows) -> Settings:
    """Return what the processors that `generate` has put together stand for.

    Raises InputError for one that has no equal, or comes in an order in which the result would differ.
    """
    _check_order([type(processor) for processor in processors])
    settings = Settings()
    for processor in processors:
        settings |= READERS[type(processor)](processor, rows)
    return settings


def _check_order(kinds: Sequence[type]) -> None:
    unknown = next((kind for kind in kinds if kind not in READERS), None)
    if unknown is not None:
        raise InputError(
            f"the logits processor {unknown.__name__} has no equal in Orthrus; there are equals of {_names(READERS)}"
        )
    places = [ORDER.index(kind) for kind in kinds if kind in ORDER]
    warped = next((place for place, kind in enumerate(kinds) if kind in WARPERS), len(kinds))
    if places != sorted(set(places)) or any(kind in FORBIDDING for kind in kinds[warped:]):
        raise InputError(
            f"the logits processors come in the order {_names(kinds)}; Orthrus applies each once, in the order"
            f" {_names(READERS)}"
        )


def _names(kinds: Iterable[type]) -> str:
    return ", ".join(kind.__name__ for kind in kinds)
