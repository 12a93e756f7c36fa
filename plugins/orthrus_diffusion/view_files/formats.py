"""Formats of view files: alone, in our own format, or inside a released Orthrus-Qwen3 checkpoint.

Ours is a directory with `config.json` and `view.safetensors`, whose weights bear the names of the base model's weights
that they stand beside. It names its base model and has its fingerprint. A released checkpoint is a whole Qwen3 model,
with the view's weights beside the model's own.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from torch import Tensor

from orthrus import BuildError, InputError
from orthrus.draft_states import DraftStatesTarget
from orthrus.files import SamplesWeights, fingerprint_files, fingerprint_weights, new_directory
from orthrus.optional import ViewTarget
from orthrus_diffusion.successor import SuccessorHead, make_head, rank_of, split_weights
from orthrus_diffusion.view_files.config import ViewConfig, check_storage, is_released, parse_config, read_config
from orthrus_diffusion.view_files.mask_token import check_mask_token
from orthrus_diffusion.view_files.quantization import dequantized, quantized
from orthrus_diffusion.view_files.safetensors_files import open_checkpoint, open_file
from orthrus_diffusion.view_files.shipped import listing, shipped_for

WEIGHTS = "view.safetensors"
UNTRAINED_BLOCK = 32  # the paper's
RELEASED_WEIGHT = re.compile(r"(.+\.self_attn\.(?:[qkvo]_proj|[qk]_norm))_diff(\.\w+)")


def attach(target: ViewTarget, name: str, directory: Path | None, *, allow_ordinary_mask: bool = False) -> ViewConfig:
    """Attach the view in a directory to the target under this name; return its config.

    directory None: the view that came with the target, or the shipped one that was made for it. One that is attached
    already is used again. Raises InputError if there is none, or its mask is an ordinary token and it may not be, and
    BuildError if it does not fit.
    """
    with _about("drafter.view"):
        folder = directory or _own_view(target)
        config = parse_config(read_config(folder), folder)
        _check_base(config, target, folder)
        check_mask_token(target, config.mask_token_id, allow_ordinary=allow_ordinary_mask or config.allow_ordinary_mask)
        if name not in target.view_names:
            weights = read_view(folder)
            target.attach_view(name, split_weights(weights)[0] if config.successor_rank else weights)
    return config


def read_head(target: ViewTarget, name: str, directory: Path | None) -> SuccessorHead | None:
    """Return the successor head of an attached view that lies in a directory, None: where `attach` looks for it.

    None is returned if it has none, or the target gives drafts no hidden states. Raises BuildError if it does not fit.
    """
    with _about("drafter.view"):
        folder = directory or _own_view(target)
        rank = parse_config(read_config(folder), folder).successor_rank
        if not rank or not isinstance(target, DraftStatesTarget):
            return None
        like = next(iter(target.view_weights(name).values()))
        return make_head(split_weights(read_view(folder))[1], rank, target.hidden_size, like)


def attach_copies(target: ViewTarget, name: str) -> ViewConfig:
    """Attach untrained copies of the target's own attention, which cost what any view costs; return their config."""
    if name not in target.view_names:
        target.attach_view(name)
    return ViewConfig(UNTRAINED_BLOCK, target.vocabulary_size - 1, target.name, None)


def save_view(
    target: ViewTarget,
    name: str,
    directory: Path,
    block: int,
    mask_token_id: int,
    *,
    storage: str = "float",
    allow_ordinary_mask: bool = False,
    weights: Mapping[str, Tensor] | None = None,
    successor: Mapping[str, Tensor] | None = None,
    replace: bool = False,
) -> None:
    """Write an attached view into a new directory, whole or not at all; raise InputError if that cannot be done.

    storage: `float`, as the weights are, or `int8`. allow_ordinary_mask: the mask may be a token of ordinary text.
    weights: the view's, more exactly than the target computes with them; None: those that it computes with.
    successor: the weights of its successor head, by their names in the file; None: it has none.
    replace: the directory may exist, and is replaced.
    """
    check_mask_token(target, mask_token_id, allow_ordinary=allow_ordinary_mask)
    rank = rank_of(successor) if successor else 0
    config = ViewConfig(block, mask_token_id, target.name, base_fingerprint(target), allow_ordinary_mask, rank)
    written = {**(target.view_weights(name) if weights is None else weights), **(successor or {})}
    write_view(directory, written, config, storage, replace)


def write_view(
    directory: Path, weights: Mapping[str, Tensor], config: ViewConfig, storage: str, replace: bool = False
) -> None:
    """Write a view in our own format into a directory, a new one unless it may be replaced.

    Raises InputError if that cannot be done.
    """
    from safetensors.torch import save_file

    check_storage(storage, "storage")
    tensors = {name: weight.detach() for name, weight in weights.items()}
    stored = quantized(tensors) if storage == "int8" else tensors
    with new_directory(directory, replace=replace) as unfinished:
        save_file({name: weight.cpu().contiguous() for name, weight in stored.items()}, unfinished / WEIGHTS)
        text = json.dumps(config.to_dict(storage), indent=1)
        (unfinished / "config.json").write_text(text + "\n", encoding="utf-8")


def read_view(directory: Path) -> dict[str, Tensor]:
    """Return a view's weights, of either format, by the names of the weights that they stand beside.

    Raises InputError if a file is missing or damaged.
    """
    if is_released(read_config(directory)):
        checkpoint = open_checkpoint(directory)
        weights = checkpoint.read(name for name in checkpoint.weights if RELEASED_WEIGHT.fullmatch(name))
        return {base_name(name): weight for name, weight in weights.items()}
    file = open_file(directory / WEIGHTS)
    return dequantized(file.read(file.weights), file.weights, directory / WEIGHTS)


def state_of(directory: Path) -> str:
    """Return what tells the weights in a directory from others that take their place: sizes and times of its files."""
    files = sorted(directory.glob("*.safetensors"))
    facts = [(file.name, file.stat().st_size, file.stat().st_mtime_ns, file.stat().st_ino) for file in files]
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:16]


def base_name(released: str) -> str:
    """Return the name of the weight that a view's weight in a released checkpoint stands beside."""
    return RELEASED_WEIGHT.sub(r"\1\2", released)


def base_fingerprint(target: ViewTarget) -> str:
    """Return the fingerprint of the target's model, without the view that its files may hold."""
    if _brings_view(target) and target.directory is not None:
        return fingerprint_files(target.directory, without=RELEASED_WEIGHT)
    return target.fingerprint()


def base_fingerprints(target: ViewTarget) -> tuple[str, ...]:
    """Return the fingerprints under which views name the target's model: its own, and that of older conversions."""
    own = base_fingerprint(target)
    if target.directory is not None and any(target.directory.glob("*.safetensors")):
        return own, fingerprint_files(target.directory, without=RELEASED_WEIGHT, tied_as_head=True)
    if isinstance(target, SamplesWeights):  # a GGUF file whose weights stay there
        return own, fingerprint_weights(target.weight_samples(), tied_as_head=True)
    return (own,)


def _own_view(target: ViewTarget) -> Path:
    if _brings_view(target) and target.directory is not None:
        return target.directory
    shipped = next(filter(None, map(shipped_for, base_fingerprints(target))), None)
    if shipped is None:
        raise BuildError(
            f"the model '{target.name}' brings no view and none is made for it here ({listing()}); name a directory or"
            " a hub id with one"
        )
    return shipped


def _brings_view(target: ViewTarget) -> bool:
    return target.directory is not None and is_released(read_config(target.directory))


def _check_base(config: ViewConfig, target: ViewTarget, directory: Path) -> None:
    if target.directory is not None and directory.resolve() == target.directory.resolve():
        return
    if config.fingerprint is None:  # a released checkpoint: its model's weights lie beside the view's
        if fingerprint_files(directory, without=RELEASED_WEIGHT) != base_fingerprint(target):
            raise BuildError(
                f"'{directory}' holds a view and the model that it was made for, whose weights are not those of"
                f" '{target.name}'; make it the target.source"
            )
    elif config.fingerprint not in base_fingerprints(target):
        raise BuildError(
            f"'{directory}' is a view of the model '{config.base}', not of '{target.name}': their weights differ"
        )


@contextmanager
def _about(key: str) -> Iterator[None]:
    """Say in errors which key of the config they are about."""
    try:
        yield
    except (BuildError, InputError) as error:
        raise type(error)(f"{key}: {error}") from error
