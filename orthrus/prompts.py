"""Prompts: files of them, and their tokens.

A file has one JSON object a line, with `prompt` or `messages` and perhaps `id`. Text, chat messages or token ids become
tokens, checked against the target that is to answer them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path
from typing import Any

from orthrus.errors import InputError, shown
from orthrus.files import read_text, short_path
from orthrus.interfaces import Target, Tokenizer
from orthrus.values import Message, Prompt


@dataclass(frozen=True)
class PromptRecord:
    """One prompt of a file, a text or a dialogue, and its id (its line number if it has none)."""

    id: str
    prompt: str | tuple[Message, ...]

    @property
    def text(self) -> str:
        """The prompt, where only texts are taken; raises InputError for a dialogue."""
        if not isinstance(self.prompt, str):
            raise InputError(f"prompt '{self.id}' is a dialogue (messages); a text is needed here")
        return self.prompt


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
    if not isinstance(value, dict) or not (isinstance(value.get("prompt"), str) or "messages" in value):
        raise InputError(f'{location}: must be an object with a text "prompt", or with "messages"')
    if "prompt" in value and "messages" in value:
        raise InputError(f'{location}: has both "prompt" and "messages"; give one of them')
    id = value.get("id", number)
    if isinstance(id, bool) or not isinstance(id, (str, int)):
        raise InputError(f'{location}: the "id" must be text or an integer, not {json.dumps(id)}')
    name = check_text(str(id), f"{location}: the id")
    if "messages" in value:
        return PromptRecord(name, _messages(value["messages"], location))
    return PromptRecord(name, check_text(value["prompt"], f"{location}: the prompt"))


def _messages(value: Any, location: str) -> tuple[Message, ...]:
    """Return a dialogue; raise InputError unless it is a list of objects with a text `role`, content as it is."""
    messages = value if isinstance(value, list) else []
    if not messages or not all(
        isinstance(message, dict) and isinstance(message.get("role"), str) for message in messages
    ):
        raise InputError(f'{location}: "messages" must be a list of objects with "role" and "content"')
    try:
        json.dumps(messages, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise InputError(f"{location}: a message is not Unicode text") from None
    return tuple(messages)


def check_text(text: str, what: str) -> str:
    """Return the text; raise InputError if it is empty or no Unicode text (half a surrogate pair, a stray byte)."""
    if not text.strip():
        raise InputError(f"{what} is empty")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InputError(f"{what} is not Unicode text: {text[error.start]!r} at character {error.start}") from None
    return text


def check_request(prompts: Any, batch: Any, ids: Any) -> list[str]:
    """Return the ids of prompts, their numbers if none are given; raise InputError for what is no request.

    For a caller in Python, whom no type checker held back.
    """
    if isinstance(prompts, (str, bytes)):
        raise InputError("generate takes a list of prompts; for one prompt, write generate([prompt])")
    if not isinstance(prompts, Sequence):
        raise InputError(f"generate takes a list of prompts, not {shown(prompts)}")
    check_batch(batch)
    names = list(map(str, range(len(prompts)))) if ids is None else list(ids) if _is_list(ids) else [ids]
    for name in names:
        if not isinstance(name, str):
            raise InputError(f"ids must be a list of texts, not {shown(name)}")
    if len(names) != len(prompts):
        raise InputError(f"there are {len(names)} ids for {len(prompts)} prompts")
    return names


def check_batch(batch: Any) -> None:
    """Raise InputError for a number of rows that is none."""
    if not isinstance(batch, Integral) or isinstance(batch, bool) or batch < 1:
        raise InputError(f"batch must be at least 1, not {shown(batch)}")


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, (str, bytes))


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
    if not isinstance(prompt, Sequence) or isinstance(prompt, (bytes, bytearray, memoryview)):
        raise InputError(f"prompt '{id}' must be text, token ids or messages, not {shown(prompt)}")
    if len(prompt) == 0 or (isinstance(prompt, str) and not prompt.strip()):
        raise InputError(f"prompt '{id}' is empty")
    items: list[Any] = list(prompt)
    if set(map(type, items)) == {int}:  # the usual case, and the quickest to see
        return items
    given = [int(token) for token in items if isinstance(token, Integral) and not isinstance(token, bool)]
    if len(given) == len(prompt):
        return given
    if not isinstance(prompt, str) and not all(isinstance(item, Mapping) for item in items):
        strange = [item for item in items if isinstance(item, bool) or not isinstance(item, (Integral, Mapping))]
        raise InputError(
            f"prompt '{id}' holds {shown((strange or items)[0])}: it must be all token ids, which are integers, or all"
            " messages with role and content"
        )
    if tokenizer is None:
        raise InputError(f"prompt '{id}' is text, but the target has no tokenizer; give token ids")
    try:
        token_ids = tokenizer.encode(prompt, chat)
    except InputError as error:
        raise InputError(f"prompt '{id}': {error}") from error
    if not token_ids:
        raise InputError(f"prompt '{id}' has no tokens")
    return token_ids
