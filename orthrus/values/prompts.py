"""Prompts: a text, its tokens, or the messages of a dialogue."""

from __future__ import annotations

from collections.abc import Sequence

Message = dict[str, str]
Prompt = str | Sequence[int] | Sequence[Message]
