"""Settings resolved against a target: its own stop tokens, texts as its tokens, no token that it does not have."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterable, Mapping
from dataclasses import replace

from orthrus.errors import BuildError, InputError
from orthrus.interfaces import Target, Tokenizer
from orthrus.optional import HasSpecialTokens
from orthrus.sampling.read_only_mapping import ReadOnlyMapping
from orthrus.settings import Sampling, Stop


def resolve_stop(stop: Stop, target: Target) -> Stop:
    """Return the stop with the target's own stop tokens among its own; raise BuildError for what cannot be found.

    A string that is a special token is in no text; it stands for the token. With `past_end` the target's own are not.
    """
    _check_tokens("stop.token_ids", stop.token_ids, target)
    if stop.strings and target.tokenizer is None:
        raise BuildError("stop.strings: the target has no tokenizer to find strings with")
    own = frozenset() if stop.past_end else target.stop_token_ids
    return replace(stop, token_ids=stop.token_ids | own | _special_tokens(stop.strings, target))


def _special_tokens(strings: Iterable[str], target: Target) -> frozenset[int]:
    """Return the tokens of strings that are special; raise BuildError for one that has such a token in it."""
    tokenizer = target.tokenizer
    special: Mapping[str, int] = tokenizer.special_tokens if isinstance(tokenizer, HasSpecialTokens) else {}
    for string in strings:
        within = next((text for text in special if text and text in string and text != string), None)
        if within is not None and string not in special:
            raise BuildError(
                f"stop.strings: {string!r} has the special token {within!r} in it, which no text holds; give"
                f" stop.token_ids: [{special[within]}]"
            )
    return frozenset(special[string] for string in strings if string in special)


def resolve_sampling(sampling: Sampling, target: Target) -> Sampling:
    """Return the settings with every bad word as token ids; raise BuildError for tokens that the target does not have.

    A text is forbidden as the tokenizer writes it at the start of a text and, with a space before it, after a word.
    """
    words = [form for word in sampling.bad_words for form in _forms(word, target.tokenizer)]
    _check_tokens("sampling.logit_bias", sampling.logit_bias, target)
    _check_tokens("sampling.bad_words", itertools.chain(*words), target)
    bias = ReadOnlyMapping(sampling.logit_bias)  # requests share the settings
    return replace(sampling, logit_bias=bias, bad_words=tuple(dict.fromkeys(words)))


def _check_tokens(key: str, tokens: Iterable[int], target: Target) -> None:
    for token in tokens:
        if not 0 <= token < target.vocabulary_size:
            raise BuildError(f"{key}: {token} is no token of the target; it has {target.vocabulary_size} tokens")


def _forms(word: str | tuple[int, ...], tokenizer: Tokenizer | None) -> list[tuple[int, ...]]:
    if not isinstance(word, str):
        return [word]
    if tokenizer is None:
        raise BuildError("sampling.bad_words: the target has no tokenizer to find texts with; give token ids")
    try:
        forms = [_encode_inside(word, tokenizer)]
    except InputError as error:
        raise BuildError(f"sampling.bad_words: {error}") from error
    with contextlib.suppress(InputError):  # an alphabet may have no space
        forms.append(_encode_inside(f" {word}", tokenizer))
    return forms


def _encode_inside(text: str, tokenizer: Tokenizer) -> tuple[int, ...]:
    """Return a text's tokens without those that the tokenizer puts around every text."""
    around, tokens = tokenizer.encode("", chat=False), tokenizer.encode(text, chat=False)
    before = sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(around, tokens, strict=False)))
    inside = tokens[before : len(tokens) - (len(around) - before)]
    if not inside:
        raise InputError(f"{text!r} has no tokens")
    return tuple(inside)
