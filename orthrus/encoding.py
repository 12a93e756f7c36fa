"""Prompts to tokens: text, chat messages or token ids, checked against the target that is to answer them."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral
from typing import Any

from orthrus.errors import InputError
from orthrus.interfaces import Target, Tokenizer
from orthrus.values import Prompt


def encode(target: Target, prompt: Prompt, id: str = "0", chat: bool | None = None) -> list[int]:
    """Return a prompt's tokens; raise InputError if it is empty, foreign or too long for the target."""
    token_ids = _token_ids(prompt, id, target.tokenizer, chat)
    foreign = [token for token in token_ids if not 0 <= token < target.vocabulary_size]
    if foreign:
        raise InputError(f"prompt '{id}': {foreign[0]} is no token; there are {target.vocabulary_size}")
    limit = target.max_length
    if limit is not None and len(token_ids) >= limit:
        raise InputError(
            f"prompt '{id}' has {len(token_ids)} tokens; the model's context of {limit} leaves no room to answer"
        )
    return token_ids


def _token_ids(prompt: Prompt, id: str, tokenizer: Tokenizer | None, chat: bool | None) -> list[int]:
    if hasattr(prompt, "tolist"):
        prompt = prompt.tolist()  # a tensor or array of token ids
    if not isinstance(prompt, Sequence):
        raise InputError(f"prompt '{id}' must be text, token ids or messages, not {prompt!r}")
    if len(prompt) == 0 or (isinstance(prompt, str) and not prompt.strip()):
        raise InputError(f"prompt '{id}' is empty")
    items: list[Any] = list(prompt)
    given = [int(token) for token in items if isinstance(token, Integral) and not isinstance(token, bool)]
    if len(given) == len(prompt):
        return given
    if tokenizer is None:
        raise InputError(f"prompt '{id}' is text, but the target has no tokenizer; give token ids")
    try:
        token_ids = tokenizer.encode(prompt, chat)
    except InputError as error:
        raise InputError(f"prompt '{id}': {error}") from error
    if not token_ids:
        raise InputError(f"prompt '{id}' has no tokens")
    return token_ids
