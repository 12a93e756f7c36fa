"""Texts of single tokens, for scores."""

from __future__ import annotations

from functools import lru_cache

from orthrus import InputError, Tokenizer
from orthrus.optional import HasSpecialTokens


class TokenTexts:
    """Return the text of a token as it stands inside a text; a special token's is its name.

    A tokenizer may leave out a space at the start of what it decodes, so a token is decoded behind another one.
    """

    def __init__(self, tokenizer: Tokenizer | None, most: int = 65536) -> None:
        self._tokenizer = tokenizer
        special = tokenizer.special_tokens if isinstance(tokenizer, HasSpecialTokens) else {}
        self._special = {token: text for text, token in special.items()}
        self._before = _plain_token(tokenizer)
        self.of = lru_cache(most)(self._text)

    def _text(self, token: int) -> str:
        if self._tokenizer is None:
            return f"token_id:{token}"
        if token in self._special:
            return self._special[token]
        alone = self._tokenizer.decode(self._before)
        return self._tokenizer.decode([*self._before, token])[len(alone) :]


def _plain_token(tokenizer: Tokenizer | None) -> list[int]:
    """Return a token with a text of its own; none if the tokenizer lacks the letter."""
    try:
        return [] if tokenizer is None else tokenizer.encode("a", chat=False)[-1:]
    except InputError:
        return []
