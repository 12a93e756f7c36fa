"""Checks that a directory's config.json is read whole: every key is the model's, or known to be without effect.

transformers keeps any key that a config.json has as an attribute, whether or not anything reads it. A key is the
model's if its config class declares it, or if the model's code names it.
"""

from __future__ import annotations

import inspect
import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from orthrus import BuildError

# Read by transformers' loader, its base class or other programs; or a note of how the model was made.
WITHOUT_EFFECT = (
    "_*",
    "architectures",
    "auto_map",
    "block_size",  # of a view that a released checkpoint holds, as is its mask token
    "cache_implementation",  # of transformers' generate
    "custom_pipelines",
    "dtype",
    "fine_tuned_from",
    "finetuning_task",
    "is_llama_config",
    "license*",
    "mlp_type",  # of starcoder2: its only kind
    "model_max_length",
    "mask_token_id",
    "model_type",
    "norm_type",  # likewise
    "original_max_position_embeddings",  # stands with the rotary positions, which have it
    "partial_rotary_factor",  # as does this
    "quantization_config",
    "random_weights_seed",
    "rope_scaling",
    "rope_theta",
    "sliding_window_pattern",
    "task_specific_params",
    "tokenizer_class",
    "torch_dtype",
    "transformers.js_config",
    "transformers_version",
    "unsloth_*",
    "use_bfloat16",
    "use_return_dict",
    "use_sliding_window",  # of a window that the family has anyway, or that is refused by its name
)
KNOWN_WINDOWS = ("sliding_window", "_sliding_window", "max_window_layers", "use_sliding_window", "*_pattern")


def check_config_keys(directory: Path, model: Any, ignored: Sequence[str]) -> None:
    """Raise BuildError, with names and values, if config.json says what nothing of the model reads.

    A key that says nothing (false, null, 0, an empty text or list) is as good as none. ignored: keys, with * for
    anything, that the user knows to be without effect.
    """
    written = read_json(directory / "config.json")
    unknown = {name: value for name, value in _unknown(written, model.config, "") if not _is(name, ignored)}
    code = _code_of(model) if unknown else ""
    unread = {name: value for name, value in unknown.items() if not re.search(rf"\b{re.escape(name)}\b", code)}
    if unread:
        said = ", ".join(f"{name}={_shown(value)}" for name, value in list(unread.items())[:5])
        raise BuildError(
            f"'{directory}/config.json' says {said}, which nothing of model type '{model.config.model_type}' reads: the"
            " text may be another model's. Mend the key, or if it changes nothing, say so with"
            f" target.ignore: [{next(iter(unread))}]"
        )


def check_windows(config: Any, ignored: Sequence[str]) -> None:
    """Raise BuildError if a config has a window under a name that no layer tells the attention of."""
    strange = windows_by_other_names(config, ignored)
    if strange:
        raise BuildError(
            f"model type '{config.model_type}' has {', '.join(strange)}, and its layers may see less than all keys in a"
            " way that is not supported; if they do not, say so with target.ignore:"
            f" [{strange[0].partition('=')[0]}]"
        )


def read_json(file: Path) -> Mapping[str, Any]:
    """Return a JSON object; an empty one if there is no such file, or if it holds none."""
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}


def windows_by_other_names(config: Any, ignored: Sequence[str]) -> list[str]:
    """Return keys of a config that speak of a window or of chunks, and are not those that layers are told of."""
    unknown = []
    for name, value in config.to_dict().items():
        speaks = "window" in name or name.startswith("attention_chunk")
        if speaks and not _is(name, KNOWN_WINDOWS) and isinstance(value, int) and value and not _is(name, ignored):
            unknown.append(f"{name}={value}")
    return unknown


def _unknown(written: Mapping[str, Any], config: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    known = {field.name for field in fields(config)} | set(config.attribute_map)
    for name, value in written.items():
        inner = getattr(config, name, None)
        if name in getattr(config, "sub_configs", {}) and isinstance(value, dict) and hasattr(inner, "attribute_map"):
            yield from _unknown(value, inner, f"{prefix}{name}.")
        elif value and name not in known and not _is(name, WITHOUT_EFFECT) and not _generates(name):
            yield f"{prefix}{name}", value


def _code_of(model: Any) -> str:
    """Return the source of the modules that the model's classes and its config are from."""
    modules = {type(module).__module__ for module in model.modules()} | {type(model.config).__module__}
    own = [sys.modules[name] for name in modules if name in sys.modules and not name.startswith("torch.")]
    return "\n".join(inspect.getsource(module) for module in own)


def _generates(name: str) -> bool:
    """Return whether a key is a setting of `generate`, which old configs hold; they are told of where they are read."""
    from transformers import GenerationConfig

    return name in vars(GenerationConfig())


def _is(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _shown(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else text[:37] + "..."
