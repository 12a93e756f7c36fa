"""Texts of single tokens, for scores."""

from __future__ import annotations

from collections.abc import Mapping

from orthrus import InputError, Tokenizer
from orthrus.optional import HasSpecialTokens


class TokenTexts:
    """Return the text of a token as it stands inside a text; a special token's is its name.

    A tokenizer may leave out a space at the start of what it decodes, so a token is decoded behind another one.
    """

    def __init__(self, tokenizer: Tokenizer | None) -> None:
        self._tokenizer = tokenizer
        special: Mapping[str, int] = tokenizer.special_tokens if isinstance(tokenizer, HasSpecialTokens) else {}
        self._known = {token: text for text, token in special.items()}  # no more than the vocabulary has
        self._before = _plain_token(tokenizer)

    def of(self, token: int) -> str:
        """Return a token's text."""
        if token not in self._known:
            self._known[token] = self._decoded(token)
        return self._known[token]

    def _decoded(self, token: int) -> str:
        if self._tokenizer is None:
            return f"token_id:{token}"
        alone = self._tokenizer.decode(self._before)
        return self._tokenizer.decode([*self._before, token])[len(alone) :]


def _plain_token(tokenizer: Tokenizer | None) -> list[int]:
    """Return a token with a text of its own; none if the tokenizer lacks the letter."""
    try:
        return [] if tokenizer is None else tokenizer.encode("a", chat=False)[-1:]
    except InputError:
        return []
