"""Where a view is kept: alone, in our own format, or inside a released Orthrus-Qwen3 checkpoint.

Ours is a directory with `config.json` and `view.safetensors`, whose weights bear the names of the base model's weights
that they stand beside. It names its base model and has its fingerprint. A released checkpoint is a whole Qwen3 model,
with the view's weights beside the model's own.
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from orthrus import BuildError, InputError, ViewTarget

FORMAT = "orthrus-view"
VERSION = 1
WEIGHTS = "view.safetensors"
RELEASED = "OrthrusLM"
RELEASED_WEIGHT = re.compile(r"(.+\.self_attn\.(?:[qkvo]_proj|[qk]_norm))_diff(\.\w+)")


@dataclass(frozen=True)
class ViewConfig:
    """Hold what a view's config says: the size of a block it was trained with, its mask token, and its base model.

    base and fingerprint are None where the view lies inside its base model.
    """

    block: int
    mask_token_id: int
    base: str | None = None
    fingerprint: str | None = None


def attach(target: ViewTarget, name: str, directory: Path | None) -> ViewConfig:
    """Attach the view in a directory, or the one that came with the target, under this name; return its config.

    One that is attached already is used again. Raises InputError if there is none, BuildError if it does not fit.
    """
    place = directory or target.directory
    values = {} if place is None else _read_config(place)
    if directory is None and (place is None or not _is_released(values)):
        raise BuildError(f"drafter.view: the model '{target.name}' brings no view; name a directory with one of it")
    assert place is not None
    if directory is not None and _is_released(values) and directory.resolve() != _resolved(target.directory):
        raise BuildError(f"drafter.view: '{directory}' holds a whole model and its view; make it the target.source")
    config = _parse(values, place)
    _check(config, target, place)
    if name not in target.view_names:
        target.attach_view(name, _released_weights(place) if _is_released(values) else _weights(place))
    return config


def save_view(target: ViewTarget, name: str, directory: Path, block: int, mask_token_id: int) -> None:
    """Write an attached view into a new directory, whole or not at all; raise InputError if that cannot be done."""
    from safetensors.torch import save_file

    config = {
        "format": FORMAT,
        "version": VERSION,
        "block_size": block,
        "mask_token_id": mask_token_id,
        "base": {"name": target.name, "fingerprint": target.fingerprint()},
    }
    if directory.exists():
        raise InputError(f"'{directory}' exists already; a view is written into a new directory")
    unfinished: Path | None = None
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(prefix=f".{directory.name}-", dir=directory.parent))
        weights = {key: weight.detach().cpu().contiguous() for key, weight in target.view_weights(name).items()}
        save_file(weights, unfinished / WEIGHTS)
        (unfinished / "config.json").write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
        unfinished.chmod(0o755)
        unfinished.rename(directory)
    except OSError as error:
        raise InputError(f"the view cannot be written to '{directory}': {error.strerror or error}") from error
    finally:
        if unfinished is not None:
            shutil.rmtree(unfinished, ignore_errors=True)


def _read_config(directory: Path) -> dict[str, Any]:
    if not directory.is_dir():
        raise InputError(f"drafter.view: there is no directory '{directory}'")
    file = directory / "config.json"
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"drafter.view: the directory '{directory}' holds no config.json") from error
    except (OSError, ValueError) as error:
        raise InputError(f"drafter.view: '{file}' cannot be read as JSON") from error
    if not isinstance(values, dict):
        raise InputError(f"drafter.view: '{file}' must hold a mapping, not a {type(values).__name__}")
    return values


def _is_released(values: Mapping[str, Any]) -> bool:
    return RELEASED in (values.get("architectures") or ())


def _parse(values: Mapping[str, Any], place: Path) -> ViewConfig:
    if _is_released(values):
        return ViewConfig(_integer(values, "block_size", place), _integer(values, "mask_token_id", place))
    if values.get("format") != FORMAT:
        raise InputError(f"drafter.view: '{place}' holds no view; its config.json has no format '{FORMAT}'")
    if values.get("version") != VERSION:
        raise InputError(
            f"drafter.view: '{place}' is of version {values.get('version')!r} of its format; known: {VERSION}"
        )
    base = values.get("base")
    if not isinstance(base, dict) or not all(isinstance(base.get(key), str) for key in ("name", "fingerprint")):
        raise InputError(f"drafter.view: the config.json of '{place}' does not say its base's name and fingerprint")
    block, mask = _integer(values, "block_size", place), _integer(values, "mask_token_id", place)
    return ViewConfig(block, mask, base["name"], base["fingerprint"])


def _integer(values: Mapping[str, Any], key: str, place: Path) -> int:
    value, least = values.get(key), 2 if key == "block_size" else 0
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise InputError(
            f"drafter.view: {key} in the config.json of '{place}' must be an integer of at least {least}, not {value!r}"
        )
    return value


def _check(config: ViewConfig, target: ViewTarget, place: Path) -> None:
    if config.fingerprint is not None and config.fingerprint != target.fingerprint():
        raise BuildError(
            f"drafter.view: '{place}' is a view of the model '{config.base}', not of '{target.name}': their weights"
            " differ"
        )
    if config.mask_token_id >= target.vocabulary_size:
        raise BuildError(
            f"drafter.view: the mask token {config.mask_token_id} of '{place}' is not in the vocabulary of"
            f" '{target.name}', which has {target.vocabulary_size} tokens"
        )


def _weights(place: Path) -> dict[str, Tensor]:
    if not (place / WEIGHTS).is_file():
        raise InputError(f"drafter.view: the directory '{place}' holds no {WEIGHTS}")
    return _read_tensors(place / WEIGHTS, re.compile(r"(.+)(\.\w+)"))


def _released_weights(place: Path) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    for file in sorted(place.glob("*.safetensors")):
        found |= _read_tensors(file, RELEASED_WEIGHT)
    return found


def _read_tensors(file: Path, pattern: re.Pattern[str]) -> dict[str, Tensor]:
    """Return the tensors whose whole name the pattern matches, by its two groups: the name without what is between."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="pt") as held:
            matches = [match for match in map(pattern.fullmatch, held.keys()) if match]
            return {match[1] + match[2]: held.get_tensor(match[0]) for match in matches}
    except (OSError, SafetensorError) as error:
        raise InputError(f"drafter.view: '{file}' is damaged or cannot be read") from error


def _resolved(directory: Path | None) -> Path | None:
    return directory.resolve() if directory else None
