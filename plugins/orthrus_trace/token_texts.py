"""Texts of tokens, one by one, as a trace shows them."""

from __future__ import annotations

from collections.abc import Sequence

from orthrus import Detokenizer, Tokenizer, byte_tokens


class TokenTexts:
    """Turn a request's tokens into text as they come, and drafted ones each by itself.

    After an error of the tokenizer there are no texts any more, and `error` says why: a trace goes on without them.
    """

    def __init__(self, tokenizer: Tokenizer | None) -> None:
        self.error: str | None = None
        self._tokenizer = tokenizer
        self._detokenizer = None if tokenizer is None else Detokenizer(tokenizer.decode, (), byte_tokens(tokenizer))

    def committed(self, tokens: Sequence[int], last: bool) -> list[str] | None:
        """Return the text that each token adds; the last one's has what was held back. None: there are none."""
        detokenizer = self._detokenizer
        if detokenizer is None or self.error:
            return None
        try:
            texts = [detokenizer.feed(token) for token in tokens]
            return [*texts[:-1], texts[-1] + detokenizer.finish()] if last and texts else texts
        except Exception as error:  # whatever a tokenizer raises: the decoding does not depend on it
            self._give_up(error)
            return None

    def drafted(self, tokens: Sequence[int]) -> list[str] | None:
        """Return the text of each token alone. None: there are none."""
        if self._tokenizer is None or self.error:
            return None
        try:
            return [self._tokenizer.decode([token]) for token in tokens]
        except Exception as error:  # as above
            self._give_up(error)
            return None

    def _give_up(self, error: Exception) -> None:
        self.error = f"{type(error).__name__}: {error}"
