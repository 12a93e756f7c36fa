"""Abilities of tokenizers: to tell their special tokens, what plays which part, and their vocabulary."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable


@runtime_checkable
class HasSpecialTokens(Protocol):
    """A tokenizer that tells which of its tokens `decode` leaves out of a text, so that they can end one."""

    special_tokens: Mapping[str, int]


@runtime_checkable
class DescribesTokens(Protocol):
    """A tokenizer that tells which tokens play which part, and the template of its chats, as its files name them."""

    def description(self) -> Mapping[str, str | None]:
        """Return the texts `bos_token`, `eos_token`, `pad_token`, `unk_token` and `chat_template`; None for none."""


@runtime_checkable
class HasVocabulary(Protocol):
    """A tokenizer that tells what each of its tokens is, so that two can be compared."""

    def vocabulary(self) -> Mapping[str, int]:
        """Return the id of each token, special ones included, by its text."""
