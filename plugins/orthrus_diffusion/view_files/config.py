"""A view's `config.json`, in our own format and in the released one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orthrus import InputError

FORMAT = "orthrus-view"
VERSION = 1
RELEASED = "OrthrusLM"
STORAGES = ("float", "int8")
LEAST = {"block_size": 2, "mask_token_id": 0, "successor_rank": 1}


@dataclass(frozen=True)
class ViewConfig:
    """The size of a block that a view was trained with, its mask token, and its base model.

    base and fingerprint are None where the view lies inside its base model. allow_ordinary_mask: the mask may be a
    token of ordinary text. successor_rank: of the successor head beside the view; 0: it has none.
    """

    block: int
    mask_token_id: int
    base: str | None = None
    fingerprint: str | None = None
    allow_ordinary_mask: bool = False
    successor_rank: int = 0

    def to_dict(self, storage: str) -> dict[str, Any]:
        """Return what the config of a view in our own format holds."""
        return {
            "format": FORMAT,
            "version": VERSION,
            "storage": storage,
            "block_size": self.block,
            "mask_token_id": self.mask_token_id,
            **({"allow_ordinary_mask": True} if self.allow_ordinary_mask else {}),
            **({"successor_rank": self.successor_rank} if self.successor_rank else {}),
            "base": {"name": self.base, "fingerprint": self.fingerprint},
        }


def read_config(directory: Path) -> dict[str, Any]:
    """Return what a directory's config.json holds; raise InputError if there is none."""
    if not directory.is_dir():
        raise InputError(f"there is no directory '{directory}'")
    file = directory / "config.json"
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"the directory '{directory}' holds no config.json") from error
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"'{file}' cannot be read as JSON") from error
    if not isinstance(values, dict):
        raise InputError(f"'{file}' must hold a mapping, not a {type(values).__name__}")
    return values


def is_released(values: Mapping[str, Any]) -> bool:
    """Tell whether a config is one of a released checkpoint: a whole model that brings its view."""
    architectures = values.get("architectures")
    return isinstance(architectures, list) and RELEASED in architectures


def parse_config(values: Mapping[str, Any], source: Path) -> ViewConfig:
    """Return what the config of a view says, which was read in this place; raise InputError if it is none."""
    if is_released(values):
        return ViewConfig(_integer(values, "block_size", source), _integer(values, "mask_token_id", source))
    if values.get("format") != FORMAT:
        raise InputError(
            f"'{source}' holds no view; its config.json has neither the format '{FORMAT}' nor the architecture"
            f" '{RELEASED}'"
        )
    if values.get("version") != VERSION:
        raise InputError(f"'{source}' is of version {values.get('version')!r} of its format; known: {VERSION}")
    check_storage(values.get("storage", STORAGES[0]), f"storage in the config.json of '{source}'")
    base = values.get("base")
    if not isinstance(base, dict) or not all(isinstance(base.get(key), str) for key in ("name", "fingerprint")):
        raise InputError(f"the config.json of '{source}' does not say its base's name and fingerprint")
    block, mask = _integer(values, "block_size", source), _integer(values, "mask_token_id", source)
    allowed = values.get("allow_ordinary_mask") is True
    rank = _integer(values, "successor_rank", source) if "successor_rank" in values else 0
    return ViewConfig(block, mask, base["name"], base["fingerprint"], allowed, rank)


def check_storage(storage: object, what: str) -> None:
    """Raise InputError if weights cannot be stored this way; what: where it was written."""
    if storage not in STORAGES:
        raise InputError(f"{what} must be {' or '.join(map(repr, STORAGES))}, not {storage!r}")


def _integer(values: Mapping[str, Any], key: str, source: Path) -> int:
    value, least = values.get(key), LEAST[key]
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise InputError(
            f"{key} in the config.json of '{source}' must be an integer of at least {least}, not {value!r}"
        )
    return value
