"""Tokens to text, one token at a time, holding back what is not yet safe to show."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence, Set
from typing import Protocol, runtime_checkable

UNFINISHED = "\ufffd"  # what a decoder writes for the bytes of a character whose rest is still to come


class TokenDecoder(Protocol):
    """The half of a tokenizer that turns tokens into text."""

    def decode(self, token_ids: Sequence[int]) -> str:
        """Return the text without special tokens; the text of a prefix is a prefix, up to an unfinished character."""


@runtime_checkable
class HasByteTokens(Protocol):
    """A tokenizer whose vocabulary has tokens that stand for single bytes, as `byte_fallback` gives it.

    A run of such tokens is decoded as one: if it is not UTF-8 as a whole, each byte of it becomes U+FFFD.
    """

    byte_tokens: Set[int]


def byte_tokens(tokenizer: object) -> Set[int]:
    """Return the tokens of a tokenizer that stand for single bytes."""
    return tokenizer.byte_tokens if isinstance(tokenizer, HasByteTokens) else frozenset()


class Detokenizer:
    """Turn a row's tokens into text as they come.

    `text` is all that is known; `feed` returns the part that became safe to show: whole characters only, no run of byte
    tokens that may go on, and nothing that might turn out to be the beginning of a stop string. Once a stop string is
    complete, `matched` is true and the text ends before it.
    """

    def __init__(
        self, decode: Callable[[Sequence[int]], str], strings: Sequence[str] = (), byte_tokens: Set[int] = frozenset()
    ) -> None:
        self.text = ""
        self.matched = False
        self._decode = decode
        self._strings = tuple(strings)
        self._bytes = byte_tokens
        self._token_ids: list[int] = []
        self._shown = 0
        self._window = 0  # the last complete piece of text starts at this token ...
        self._complete = 0  # ... and ends before this one
        self._given = 0  # characters of the window's text that are in `text`
        self._settled = 0  # characters of `text` that no later token changes
        self._in_run = False  # whether byte tokens are at the end, with nothing behind them that has a text

    def feed(self, token_id: int, armed: bool = True) -> str:
        """Add a token and return the text that became safe to show; a stop string counts only while armed."""
        self._token_ids.append(token_id)
        self._in_run = token_id in self._bytes or (self._in_run and not self._decode([token_id]))
        before = self.text
        settled = before if self._settled == len(before) else before[: self._settled]
        self.text = settled + (self._tail().rstrip(UNFINISHED) if self._in_run else self._new_text())
        if not self._in_run:
            self._settled = len(self.text)
        if not self._strings:
            return self._show(self._settled)
        if armed:
            self._cut(len(before) if self.text.startswith(before) else len(settled))
        return self._show(self._safe_end())

    def extend(self, token_ids: Sequence[int]) -> str:
        """Add tokens, one at least, and return the text that became safe to show: that of `feed` for each of them.

        They are decoded together, which is quicker. Stop strings are not looked for.
        """
        if self._in_run or not self._bytes.isdisjoint(token_ids):  # then it matters where a run begins
            return "".join(self.feed(token_id, armed=False) for token_id in token_ids)
        self._token_ids += token_ids[:-1]
        return self.feed(token_ids[-1], armed=False)

    def finish(self) -> str:
        """Return what was held back, now that no token follows."""
        if not self.matched:
            self.text = self.text[: self._settled] + self._tail()
        return self._show(len(self.text))

    def _new_text(self) -> str:
        # A token's text can depend on its neighbours, so a short window of tokens is decoded: from the last whole
        # piece on. What stands before an unfinished character is text already.
        text = self._decode(self._token_ids[self._window :])
        whole = text.rstrip(UNFINISHED)
        new, self._given = whole[self._given :], max(self._given, len(whole))
        if new and whole == text:
            self._window, self._complete = self._complete, len(self._token_ids)
            self._given = len(self._decode(self._token_ids[self._window :]))
        return new

    def _tail(self) -> str:
        return self._decode(self._token_ids[self._window :])[self._given :]

    def _cut(self, before: int) -> None:
        end = find_stop(self.text, before, self._strings)
        if end is not None:
            self.text, self.matched = self.text[:end], True

    def _safe_end(self) -> int:
        if self.matched:
            return len(self.text)
        held_back = max((_overlap(self.text, string) for string in self._strings), default=0)
        return min(self._settled, len(self.text) - held_back)

    def _show(self, end: int) -> str:
        start, self._shown = self._shown, max(self._shown, end)
        return self.text[start : self._shown]


def find_stop(text: str, before: int, strings: Iterable[str]) -> int | None:
    """Return where the earliest stop string starts that ends after the first `before` characters, or None."""
    starts = [text.find(string, max(0, before - len(string) + 1)) for string in strings]
    return min((start for start in starts if start >= 0), default=None)


def _overlap(text: str, string: str) -> int:
    """Return how many characters at the end of the text begin the string."""
    return next((n for n in range(min(len(string) - 1, len(text)), 0, -1) if text.endswith(string[:n])), 0)
