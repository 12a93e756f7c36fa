"""Prompt files: one JSON object a line, with `prompt` and perhaps `id`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orthrus.errors import InputError


@dataclass(frozen=True)
class PromptRecord:
    """Hold one prompt of a file and its id (its line number if it has none)."""

    id: str
    prompt: str


def read_prompts(path: Path, limit: int | None = None) -> list[PromptRecord]:
    """Return the first `limit` prompts of a JSONL file; raise InputError with file and line for one that is wrong."""
    if not path.is_file():
        what = "is a directory" if path.is_dir() else "does not exist"
        raise InputError(f"the prompt file '{path}' {what}")
    try:
        lines = path.read_text(encoding="utf-8").split("\n")  # not splitlines: JSON texts may hold U+2028 as it is
    except UnicodeDecodeError:
        raise InputError(f"the prompt file '{path}' is not UTF-8 text") from None
    records = [_record(line, path, number) for number, line in enumerate(lines, start=1) if line.strip()]
    if not records:
        raise InputError(f"the prompt file '{path}' holds no prompts")
    return records[:limit]


def _record(line: str, path: Path, number: int) -> PromptRecord:
    place = f"{path}, line {number}"
    try:
        value: Any = json.loads(line)
    except json.JSONDecodeError as error:
        raise InputError(f"{place}: is not JSON: {error.msg} (column {error.colno})") from None
    except (ValueError, RecursionError) as error:  # a number too long, or brackets too deep
        raise InputError(f"{place}: cannot be read: {error}") from None
    if not isinstance(value, dict) or not isinstance(value.get("prompt"), str):
        raise InputError(f'{place}: must be an object with a text "prompt"')
    id = value.get("id", number)
    if isinstance(id, bool) or not isinstance(id, (str, int)):
        raise InputError(f'{place}: the "id" must be text or an integer, not {json.dumps(id)}')
    return PromptRecord(check_text(str(id), f"{place}: the id"), check_text(value["prompt"], f"{place}: the prompt"))


def check_text(text: str, what: str) -> str:
    """Return the text; raise InputError if it is empty or no Unicode text (half a surrogate pair, a stray byte)."""
    if not text.strip():
        raise InputError(f"{what} is empty")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InputError(f"{what} is not Unicode text: {text[error.start]!r} at character {error.start}") from None
    return text
