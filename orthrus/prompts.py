"""Prompts: files of them, and their tokens.

A file has one JSON object a line, with `prompt` and perhaps `id`. Text, chat messages or token ids become tokens,
checked against the target that is to answer them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path
from typing import Any

from orthrus.errors import InputError
from orthrus.files import read_text, short_path
from orthrus.interfaces import Target, Tokenizer
from orthrus.values import Prompt


@dataclass(frozen=True)
class PromptRecord:
    """One prompt of a file and its id (its line number if it has none)."""

    id: str
    prompt: str


def read_prompts(path: Path, limit: int | None = None) -> list[PromptRecord]:
    """Return the first `limit` prompts of a JSONL file or pipe; raise InputError with file and line for a wrong one."""
    try:
        lines = read_text(path).split("\n")  # not splitlines: JSON texts may hold U+2028 as it is
    except InputError as error:
        raise InputError(f"the prompt file '{short_path(path)}' {error}") from error
    records = [_record(line, path, number) for number, line in enumerate(lines, start=1) if line.strip()]
    if not records:
        raise InputError(f"the prompt file '{path}' holds no prompts")
    return records[:limit]


def _record(line: str, path: Path, number: int) -> PromptRecord:
    location = f"{path}, line {number}"
    try:
        value: Any = json.loads(line)
    except json.JSONDecodeError as error:
        raise InputError(f"{location}: is not JSON: {error.msg} (column {error.colno})") from None
    except (ValueError, RecursionError) as error:  # a number too long, or brackets too deep
        raise InputError(f"{location}: cannot be read: {error}") from None
    if not isinstance(value, dict) or not isinstance(value.get("prompt"), str):
        raise InputError(f'{location}: must be an object with a text "prompt"')
    id = value.get("id", number)
    if isinstance(id, bool) or not isinstance(id, (str, int)):
        raise InputError(f'{location}: the "id" must be text or an integer, not {json.dumps(id)}')
    return PromptRecord(
        check_text(str(id), f"{location}: the id"), check_text(value["prompt"], f"{location}: the prompt")
    )


def check_text(text: str, what: str) -> str:
    """Return the text; raise InputError if it is empty or no Unicode text (half a surrogate pair, a stray byte)."""
    if not text.strip():
        raise InputError(f"{what} is empty")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InputError(f"{what} is not Unicode text: {text[error.start]!r} at character {error.start}") from None
    return text


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
