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
        lines = path.read_text(encoding="utf-8").splitlines()
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
    if not isinstance(value, dict) or not isinstance(value.get("prompt"), str):
        raise InputError(f'{place}: must be an object with a text "prompt"')
    if not value["prompt"].strip():
        raise InputError(f"{place}: the prompt is empty")
    return PromptRecord(str(value.get("id", number)), value["prompt"])
