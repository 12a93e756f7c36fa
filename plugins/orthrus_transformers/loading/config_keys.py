"""Checks that a directory's config.json is read whole: every key is the model's, or known to be without effect.

transformers keeps any key that a config.json has as an attribute, whether or not anything reads it. A key is the
model's if its config class declares it, or if the model's code names it.
"""

from __future__ import annotations

import functools
import inspect
import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from orthrus import BuildError
from orthrus_transformers.loading.known_config_keys import ALIASES, NEUTRAL, OF_A_VIEW, ROPE_KEYS, WITHOUT_EFFECT
from orthrus_transformers.loading.patterns import matches, shortened

KNOWN_WINDOWS = ("sliding_window", "_sliding_window", "max_window_layers", "use_sliding_window", "*_pattern")


def check_config_keys(directory: Path, model: Any, ignored: Sequence[str]) -> None:
    """Raise BuildError, with names and values, if config.json says what the model does not read, or contradicts itself.

    ignored: keys, with * for anything, that the user knows to be without effect.
    """
    written = read_json(directory / "config.json")
    released_with_view = any("Orthrus" in str(name) for name in written.get("architectures") or ())
    unread = dict(_unread(written, model, model.config))
    unread |= dict(_unread_positions(written, model.config))
    unread = {
        name: value
        for name, value in unread.items()
        if not matches(name, ignored) and not (released_with_view and name in OF_A_VIEW)
    }
    if unread:
        said = ", ".join(f"{name}={shortened(json.dumps(value))}" for name, value in list(unread.items())[:5])
        raise BuildError(
            f"'{directory}/config.json' says {said}, which model type '{model.config.model_type}' does not read, or"
            " which contradicts what it reads: the text may be another model's. Mend the key, or if it changes nothing,"
            f" say so with target.ignore: [{next(iter(unread))}]"
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
    """Return a JSON object, an empty one if there is no such file; raise BuildError if the file holds none."""
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise BuildError(f"'{file}' cannot be read as JSON ({error})") from error
    if not isinstance(values, dict):
        raise BuildError(f"'{file}' holds no JSON object")
    return values


def windows_by_other_names(config: Any, ignored: Sequence[str]) -> list[str]:
    """Return keys of a config that speak of a window or of chunks, and are not those that layers are told of."""
    unknown = []
    for name, value in config.to_dict().items():
        speaks = "window" in name or name.startswith("attention_chunk")
        known = matches(name, KNOWN_WINDOWS) or _is_neutral(name, value, config) or matches(name, ignored)
        if speaks and isinstance(value, int) and value and not known:
            unknown.append(f"{name}={value}")
    return unknown


def _unread(written: Mapping[str, Any], model: Any, config: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the keys that nothing reads; a value that says nothing (false, null, 0, empty) is as good as none."""
    declared = {field.name for field in fields(config)} | set(config.attribute_map) | _made_by_class(type(config))
    code = Code.of(model)
    for name, value in written.items():
        # What is no config of its own is not read: some values differ by layer, and have no one answer.
        inner = getattr(config, name, None) if name in getattr(config, "sub_configs", {}) else None
        if isinstance(value, dict) and hasattr(inner, "attribute_map"):
            yield from _unread(value, model, inner, f"{prefix}{name}.")
        elif value and not (name in declared or matches(name, WITHOUT_EFFECT) or _generates(name)):
            if _is_neutral(name, value, config) or code.reads(name):
                continue
            yield f"{prefix}{name}", value


def _made_by_class(config_class: type) -> frozenset[str]:
    """Return the attributes that a config class makes of its fields, which `save_pretrained` writes, too."""
    try:
        return frozenset(vars(config_class()))
    except Exception:  # defaults that do not hold together fail in many ways; then no more keys are known
        return frozenset()


def _is_neutral(name: str, value: Any, config: Any) -> bool:
    """Return whether a key is known to change nothing with this value, for this model type."""
    alias = ALIASES.get(config.model_type, {}).get(name)
    if alias is not None:
        stands_for = getattr(config, alias, None)
        if stands_for is None:
            stands_for = (getattr(config, "rope_parameters", None) or {}).get(alias)
        return bool(stands_for is None or stands_for == value)
    values = NEUTRAL.get(config.model_type, {}).get(name)
    return values is not None and (not values or value in values)


def _unread_positions(written: Mapping[str, Any], config: Any) -> Iterator[tuple[str, Any]]:
    """Yield what the settings of rotary positions say that no position is made of."""
    for name in ("rope_scaling", "rope_parameters"):
        settings = written.get(name)
        if not isinstance(settings, dict):
            continue
        by_layer = {kind: inner for kind, inner in settings.items() if isinstance(inner, dict)}
        for kind, inner in (by_layer or {"": settings}).items():
            prefix = f"{name}.{kind}." if kind else f"{name}."
            yield from ((f"{prefix}{key}", value) for key, value in inner.items() if value and key not in ROPE_KEYS)
            unscaled = inner.get("rope_type", inner.get("type", "default")) in ("default", None)
            if unscaled and inner.get("factor") not in (None, 1, 1.0):
                yield f"{prefix}factor", inner["factor"]
        base, own = written.get("rope_theta"), settings.get("rope_theta")
        if base is not None and own is not None and base != own:
            yield "rope_theta", base


@dataclass(frozen=True)
class Code:
    """The source of a model's own modules: the modeling code, and that of its config."""

    modeling: str
    configuration: str

    @classmethod
    def of(cls, model: Any) -> Code:
        """Return the source of the package that the model's class is from."""
        package = type(model).__module__.rpartition(".")[0]
        modules = {type(module).__module__ for module in model.modules()} | {type(model).__module__}
        own = sorted(name for name in modules if name.rpartition(".")[0] == package)
        return cls("\n".join(map(_source, own)), _source(type(model.config).__module__))

    def reads(self, name: str) -> bool:
        """Return whether the code asks a config for a key of this name."""
        escaped = re.escape(name)
        asked = re.search(rf"\bconfig\.{escaped}\b|[\"']{escaped}[\"']", self.modeling)
        return bool(asked or re.search(rf"\bself\.{escaped}\b|kwargs[^\n]*[\"']{escaped}[\"']", self.configuration))


@functools.cache
def _source(module: str) -> str:
    return inspect.getsource(sys.modules[module])


def _generates(name: str) -> bool:
    """Return whether a key is a setting of `generate`, which old configs hold; they are told of where they are read."""
    from transformers import GenerationConfig

    return name in vars(GenerationConfig())
