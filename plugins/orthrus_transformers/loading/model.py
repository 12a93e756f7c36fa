"""Loading of a model and its tokenizer: safetensors only, no code from elsewhere unless an option says so."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from orthrus import BuildError, InputError, Parts, Plugins, find_source
from orthrus.errors import reason
from orthrus.files import weight_files
from orthrus.ranks.group import RankGroup
from orthrus_transformers.guards import does_not_fit
from orthrus_transformers.loading.config_keys import check_config_keys, check_windows, read_json
from orthrus_transformers.loading.gguf_cache import converted, described
from orthrus_transformers.loading.quiet import quiet
from orthrus_transformers.loading.random_weights import make_random_model, make_random_shards, wants_random_weights
from orthrus_transformers.loading.sharded_weights import load_shards
from orthrus_transformers.loading.tokenizer import TextTokenizer
from orthrus_transformers.loading.weights import load_weights
from orthrus_transformers.options import TransformersOptions

TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "tokenizer_config.json", "vocab.json", "vocab.txt")


def local_directory(path: Path, parts: Parts, ignored: Sequence[str] = (), *, in_blocks: bool = False) -> Path:
    """Return a directory with a model for a directory or GGUF file; raise BuildError for anything else.

    A model is a config.json with safetensors, or one that asks for random weights. in_blocks: the weights of a GGUF
    file are left where they are, so that the directory only describes the model.
    """
    if path.is_file():
        if path.suffix.lower() != ".gguf":
            raise BuildError(f"target.source: '{path}' is neither a directory nor a .gguf file")
        return (described if in_blocks else converted)(path, parts.notify, ignored)
    if in_blocks:
        raise BuildError(
            f"target.dtype: 'gguf' computes with the blocks of a .gguf file, and '{path}' is none; set"
            " target.dtype=float32"
        )
    if not (path / "config.json").is_file():
        raise BuildError(f"target.source: the directory '{path}' holds no config.json")
    if not wants_random_weights(path) and not any(path.glob("*.safetensors")):
        raise BuildError(f"target.source: the directory '{path}' holds no .safetensors file; pickles are never loaded")
    return path


def choose_device(name: str) -> torch.device:
    """Return the device; raise BuildError if it does not exist here."""
    if name == "auto":
        mps = torch.backends.mps.is_available()
        return torch.device("cuda" if torch.cuda.is_available() else "mps" if mps else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).split("\n")[0]
        raise BuildError(f"target.device: '{name}' cannot be used here: {reason}") from error
    return device


def check_device_of_blocks(name: str) -> None:
    """Raise BuildError unless a device is a CPU, where alone a GGUF file's own blocks are computed with."""
    if name != "auto" and choose_device(name).type != "cpu":
        raise BuildError(f"target.dtype: 'gguf' computes on a CPU, not on target.device '{name}'; set device=cpu")


def load_in_blocks(file: Path, directory: Path, options: TransformersOptions) -> Any:
    """Return the model of a GGUF file, its weights in the file's blocks; directory: its description."""
    from orthrus_transformers.loading.gguf.blocks import load_block_model

    model = load_block_model(file, directory)
    check_config_keys(directory, model, options.ignore)
    check_windows(model.config.get_text_config(), options.ignore)
    return model.eval().requires_grad_(False)


def load_model(directory: Path, options: TransformersOptions, device: torch.device) -> Any:
    """Return the model in evaluation mode, frozen; raise BuildError if it cannot be loaded."""
    dtype = None if options.dtype == "auto" else getattr(torch, options.dtype)
    if wants_random_weights(directory):
        model = make_random_model(directory, dtype, device, trust_remote_code=options.trust_remote_code)
        model = model.eval().requires_grad_(False)
        check_config_keys(directory, model, options.ignore)
        return model
    _check_no_adapter(directory)
    _check_weight_files(directory)
    model = load_weights(
        directory,
        options.ignore,
        dtype=dtype or "auto",
        use_safetensors=True,
        trust_remote_code=options.trust_remote_code,
    )
    check_config_keys(directory, model, options.ignore)
    check_windows(model.config.get_text_config(), options.ignore)
    try:
        return model.to(device).eval().requires_grad_(False)
    except torch.OutOfMemoryError as error:
        raise does_not_fit(error) from error


def load_model_shards(directory: Path, options: TransformersOptions, device: torch.device, group: RankGroup) -> Any:
    """Return this rank's part of the model, as `load_model` returns a whole one."""
    dtype = None if options.dtype == "auto" else getattr(torch, options.dtype)
    trust = options.trust_remote_code
    try:
        if wants_random_weights(directory):
            model = make_random_shards(directory, dtype, device, group, trust_remote_code=trust)
        else:
            _check_no_adapter(directory)
            _check_weight_files(directory)
            model = load_shards(directory, options.ignore, dtype, device, group, trust_remote_code=trust)
    except torch.OutOfMemoryError as error:
        raise does_not_fit(error) from error
    check_config_keys(directory, model, options.ignore)
    check_windows(model.config.get_text_config(), options.ignore)
    return model.eval().requires_grad_(False)


def _check_no_adapter(directory: Path) -> None:
    if (directory / "adapter_config.json").is_file():
        raise BuildError(
            f"target.source: '{directory}' holds an adapter (adapter_config.json) beside the model, which is not"
            " applied; merge it into the weights, or remove the file"
        )


def _check_weight_files(directory: Path) -> None:
    """Raise if transformers would read weights from elsewhere than the safetensors files of the directory."""
    try:
        weight_files(directory)
    except InputError as error:
        raise InputError(f"target.source: {error}") from error
    if read_json(directory / "config.json").get("transformers_weights") is not None:
        raise BuildError(
            f"target.source: '{directory}/config.json' names its weights by transformers_weights, which is not read;"
            " remove the key and call the file model.safetensors, or its index model.safetensors.index.json"
        )


def tokenizer_directory(directory: Path, options: TransformersOptions, parts: Parts) -> Path:
    """Return where the tokenizer is: with the model in its directory, or where the options say."""
    if options.tokenizer is None:
        return directory
    try:
        other = find_source(options.tokenizer, Plugins.load(), parts).fetch()
    except InputError as error:
        raise InputError(str(error).replace("target.source", "target.tokenizer")) from error
    if not any((other / name).is_file() for name in TOKENIZER_FILES):
        raise InputError(f"target.tokenizer: '{options.tokenizer}' holds no tokenizer ({TOKENIZER_FILES[0]})")
    return other


def load_tokenizer(directory: Path, options: TransformersOptions) -> TextTokenizer | None:
    """Return the tokenizer, or None if the directory holds none; raise BuildError if it is damaged."""
    from transformers import AutoTokenizer

    if not any((directory / name).is_file() for name in TOKENIZER_FILES):
        return None
    try:
        with quiet():
            tokenizer = AutoTokenizer.from_pretrained(directory, trust_remote_code=options.trust_remote_code)
    except Exception as error:  # damaged files fail in many ways; the cause is chained
        raise BuildError(f"no tokenizer can be loaded from '{directory}' ({reason(error)})") from error
    return TextTokenizer(tokenizer, options.chat)
