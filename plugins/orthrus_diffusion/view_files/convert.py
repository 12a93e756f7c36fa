"""Conversion from the released format to our own and back, a few weights at a time."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from torch import Tensor

from orthrus import InputError
from orthrus.errors import first_of
from orthrus.files import INDEX, fingerprint_files, new_directory
from orthrus_diffusion.successor import split_weights
from orthrus_diffusion.view_files.config import RELEASED, ViewConfig, is_released, parse_config, read_config
from orthrus_diffusion.view_files.formats import RELEASED_WEIGHT, WEIGHTS, base_name, read_view, write_view
from orthrus_diffusion.view_files.quantization import SCALE, dequantized
from orthrus_diffusion.view_files.safetensors_files import (
    SHARD_BYTES,
    StoredWeights,
    open_checkpoint,
    open_file,
    write_checkpoint,
)

ATTENTION_WEIGHT = re.compile(r"(.+\.self_attn\.(?:[qkvo]_proj|[qk]_norm))(\.\w+)")
COMPANIONS = (".json", ".txt", ".model", ".jinja")  # of a model's weights: tokenizer, chat template, generation config


def to_view(source: Path, destination: Path, storage: str, name: str) -> None:
    """Write the view in a released checkpoint, or in our own format, as a view of our own into a new directory.

    name: what the released model is called in errors. Raises InputError if there is no whole view or it cannot be
    written.
    """
    values = read_config(source)
    config = parse_config(values, source)
    if is_released(values):
        stored = open_checkpoint(source).weights
        _check_names({base_name(name) for name in stored if RELEASED_WEIGHT.fullmatch(name)}, stored, source)
        fingerprint = fingerprint_files(source, without=RELEASED_WEIGHT)
        config = ViewConfig(config.block, config.mask_token_id, name, fingerprint)
    write_view(destination, read_view(source), config, storage)


def to_released(view: Path, base: Path, destination: Path, name: str, most: int = SHARD_BYTES) -> None:
    """Write a view of our own and the model that it was made for as one released checkpoint into a new directory.

    name: what the base is called in errors. most: bytes of a file, and so of what is held at a time. The view takes the
    dtypes of the base. A successor head has no place in that format, and is left out. Raises InputError if they do
    not belong together or it cannot be written.
    """
    values, base_values = read_config(view), read_config(base)
    if is_released(values):
        raise InputError(f"'{view}' is a released checkpoint already")
    config = parse_config(values, view)
    _check_base(config, base_values, base, view, name)
    model, view_weights = open_checkpoint(base), open_file(view / WEIGHTS)
    twins = {name for name in split_weights(view_weights.weights)[0] if not name.endswith(SCALE)}
    _check_names(twins, model.weights, view)
    own = {name: stored.bytes for name, stored in model.weights.items() if not RELEASED_WEIGHT.fullmatch(name)}
    sizes = own | {_released_name(name): own[name] for name in sorted(twins)}
    with new_directory(destination) as unfinished:
        write_checkpoint(unfinished, sizes, _reader(model, view_weights, view), most)
        released = {key: value for key, value in base_values.items() if key != "auto_map"}
        released |= {"architectures": [RELEASED], "block_size": config.block, "mask_token_id": config.mask_token_id}
        (unfinished / "config.json").write_text(json.dumps(released, indent=2) + "\n", encoding="utf-8")
        _copy_companions(base, unfinished)


def _check_base(config: ViewConfig, values: dict[str, Any], base: Path, view: Path, name: str) -> None:
    if values.get("model_type") != "qwen3":
        raise InputError(f"the released format is one of qwen3 models; '{name}' is of type {values.get('model_type')}")
    if fingerprint_files(base, without=RELEASED_WEIGHT) != config.fingerprint:
        raise InputError(f"'{view}' is a view of the model '{config.base}', not of '{name}': their weights differ")


def _check_names(twins: Collection[str], stored: Collection[str], source: Path) -> None:
    """Raise InputError unless the view has exactly the weights of the model's attention."""
    expected = {name for name in stored if ATTENTION_WEIGHT.fullmatch(name)}
    wrong = [f"{name} is missing" for name in sorted(expected - set(twins))]
    wrong += [f"{name} is none of its attention" for name in sorted(set(twins) - expected)]
    if wrong:
        raise InputError(f"the view's weights in '{source}' do not fit its model: {first_of(wrong)}")


def _reader(model: StoredWeights, view_weights: StoredWeights, view: Path) -> Callable[[list[str]], dict[str, Tensor]]:
    """Return what reads weights of a released checkpoint: the model's own, and the view's in the dtypes of those."""

    def read(names: list[str]) -> dict[str, Tensor]:
        own = model.read(name for name in names if name in model.weights and not RELEASED_WEIGHT.fullmatch(name))
        for name in names:
            if name not in own:
                own[name] = read_weight(base_name(name))
        return own

    def read_weight(name: str) -> Tensor:
        stored = view_weights.read(part for part in (name, name + SCALE) if part in view_weights.weights)
        decoded = dequantized(stored, view_weights.weights, view / WEIGHTS)[name]
        beside = model.read([name])[name]
        if decoded.shape != beside.shape:
            raise InputError(f"{name} in '{view}' has the shape {list(decoded.shape)}, not {list(beside.shape)}")
        return decoded.to(beside.dtype)

    return read


def _released_name(name: str) -> str:
    return ATTENTION_WEIGHT.sub(r"\1_diff\2", name)


def _copy_companions(base: Path, destination: Path) -> None:
    for file in sorted(base.iterdir()):
        if file.is_file() and file.suffix in COMPANIONS and file.name not in ("config.json", INDEX):
            shutil.copyfile(file, destination / file.name)
