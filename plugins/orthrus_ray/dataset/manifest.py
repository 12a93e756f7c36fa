"""The manifest of an output: what its answers are answers to, so that only the same decoding goes on with it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from orthrus import InputError
from orthrus.files import read_text, write_whole
from orthrus_ray.dataset.settings import ROWS_A_PART, DatasetSettings

NAME = "_orthrus-decode.json"  # those that read a folder of Parquet files pass over such names
WORDS = {"input": "another input", "part_rows": "parts of another size", "column": "another column of prompts"}


@dataclass(frozen=True)
class Manifest:
    """What the parts of an output depend on: how many actors wrote them is not among it."""

    config: Mapping[str, Any]
    input: Sequence[Mapping[str, Any]]
    column: str
    id_column: str | None
    chat: bool | None
    part_rows: int


def claim(settings: DatasetSettings, input: Sequence[Mapping[str, Any]], id_column: str | None) -> Manifest:
    """Return the manifest of an output, written if it is new; raise InputError if it is another decoding's."""
    file = settings.output / NAME
    earlier = _read(file) if file.exists() else None
    if earlier is None and settings.output.exists() and not _empty(settings.output):
        raise InputError(f"the output '{settings.output}' is there, and no output of this command; give a new folder")
    part_rows = settings.part_rows or (earlier or {}).get("part_rows") or ROWS_A_PART
    manifest = Manifest(_plain(settings.config), input, settings.column, id_column, settings.chat, part_rows)
    if earlier is None:
        write_whole(file, json.dumps(asdict(manifest), indent=1, sort_keys=True, ensure_ascii=False))
    elif other := next(differences(earlier, _plain(asdict(manifest))), None):
        raise InputError(
            f"the output '{settings.output}' exists from {WORDS.get(other.partition('.')[0], 'another config')}"
            f" ('{other}' differs); give a new folder, or what it was made with"
        )
    return manifest


def _empty(folder: Path) -> bool:
    return folder.is_dir() and not any(folder.iterdir())


def _read(file: Path) -> Mapping[str, Any]:
    try:
        value = json.loads(read_text(file))
    except (InputError, ValueError) as error:
        raise InputError(f"'{file}' is damaged: {error}") from error
    if not isinstance(value, dict):
        raise InputError(f"'{file}' is damaged: it is no object")
    return value


def _plain(value: Any) -> Any:
    """Return a value as it comes back from JSON."""
    return json.loads(json.dumps(value))


def differences(first: Mapping[str, Any], second: Mapping[str, Any], path: str = "") -> Iterator[str]:
    """Yield the dotted keys at which two mappings differ."""
    for key in sorted({*first, *second}):
        old, new, name = first.get(key), second.get(key), f"{path}{key}"
        if isinstance(old, dict) and isinstance(new, dict):
            yield from differences(old, new, f"{name}.")
        elif old != new:
            yield name
