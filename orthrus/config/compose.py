"""Config files and overrides as plain layers, and how they compose: later wins, and a part with a new name is new.

OmegaConf reads the YAML and the dotted overrides. Its interpolation is not part of the language: `${` is ordinary text
(a stop string may contain it), so it is hidden from OmegaConf while it reads.
"""

from __future__ import annotations

import io
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from orthrus.config.numbers import other_number
from orthrus.config.recipes import shipped_configs
from orthrus.errors import ConfigError, InputError, Problem, shown
from orthrus.files import path_exists, read_text, short_path

_HIDDEN = "\ue000{"  # a private character of Unicode in the place of the dollar sign
COMMAND_LINE = "override"
DEEPEST = 100  # files that use each other, one over the other
MOST_LAYERS = 1000  # of one config: files that use the next one twice would be laid 2^n times
UNREADABLE = (yaml.YAMLError, OmegaConfBaseException, ValueError, RecursionError)  # ValueError: a number too long


@dataclass(frozen=True)
class ConfigSource:
    """One source of settings, a file or another origin, with its settings as plain values."""

    origin: str
    values: Mapping[str, Any]


@dataclass(frozen=True)
class Composed:
    """The settings that result, and for each dotted key the origin of the layer that set it.

    main: where a key that nobody wrote belongs.
    """

    values: dict[str, Any]
    origins: dict[str, str]
    main: str = "config"

    def origin(self, key: str) -> str:
        """Return where a key, or the nearest one that holds it, was written."""
        while key not in self.origins and "." in key:
            key = key.rpartition(".")[0]
        return self.origins.get(key, self.main)


def read_layers(path: Path) -> tuple[list[ConfigSource], list[Problem]]:
    """Return the layers of a file, those that it uses first, and all problems met on the way."""
    return _read_layers(path, (), {})


Layers = tuple[list[ConfigSource], list[Problem]]


def _read_layers(path: Path, using: tuple[Path, ...], known: dict[Path, Layers]) -> Layers:
    """Read a file, once however often it is used. using: the files that lead to it; known: those that were read."""
    whole = path.resolve()
    if whole in using:
        return [], [Problem(str(using[-1]), "use", f"'{path}' is used by itself, in a circle")]
    if len(using) > DEEPEST:
        return [], [Problem(str(using[-1]), "use", f"'{path}' is used over more than {DEEPEST} other files")]
    if whole not in known:
        known[whole] = _read_with_used(path, (*using, whole), known)
    return known[whole]


def _read_with_used(path: Path, using: tuple[Path, ...], known: dict[Path, Layers]) -> Layers:
    problems: list[Problem] = []
    values = _read_file(path, problems)
    used = values.pop("use", [])
    if not isinstance(used, list) or not all(isinstance(item, str) for item in used):
        problems.append(Problem(str(path), "use", f"must be a list of paths, not {shown(used)}"))
        used = []
    layers: list[ConfigSource] = []
    for item in used:
        inherited, more = _read_used(path, item, using, known)
        layers += inherited
        problems += [problem for problem in more if problem not in problems]
        if len(layers) > MOST_LAYERS:
            return [], [*problems, Problem(str(path), "use", f"more than {MOST_LAYERS} files are laid over each other")]
    return [*layers, ConfigSource(str(path), values)], problems


def _read_used(path: Path, item: str, using: tuple[Path, ...], known: dict[Path, Layers]) -> Layers:
    try:
        used = _tidy(path.parent / Path(item).expanduser())
        if not (there := used.is_file()) and item in (shipped := shipped_configs()):
            used, there = shipped[item], True
    except (OSError, RuntimeError) as error:  # too long a name, or no such user
        why = error.strerror if isinstance(error, OSError) else error
        return [], [Problem(str(path), "use", f"'{short_path(item)}' cannot be a file: {why}")]
    if not there:
        return [], [Problem(str(path), "use", f"there is no file '{item}' (looked for '{used}')")]
    return _read_layers(used, using, known)


def _tidy(path: Path) -> Path:
    """Return the path without `..`, so that messages call a file by one name, unless a link makes that another file."""
    tidy = Path(os.path.normpath(path))
    return path if path.exists() and not (tidy.exists() and tidy.samefile(path)) else tidy


def _read_file(path: Path, problems: list[Problem]) -> dict[str, Any]:
    try:
        if not path.is_file() and path_exists(path) and not path.is_dir():
            raise InputError("is no regular file, and a config may be read more than once")
        text = _hide(read_text(path))
        values = _plain(OmegaConf.load(io.StringIO(text)))
        if wrong := other_number(text):
            problems.append(Problem(str(path), "", wrong))
    except InputError as error:
        problems.append(Problem(short_path(path), "", str(error)))
        return {}
    except (OSError, AssertionError):  # what OmegaConf raises for a file that is a single value, quoted or not
        problems.append(Problem(str(path), "", "must be a mapping, not a single value"))
        return {}
    except UNREADABLE as error:
        problems.append(Problem(str(path), "", f"is not valid YAML: {_one_line(error)}"))
        return {}
    if not isinstance(values, dict):
        problems.append(Problem(str(path), "", f"must be a mapping, not a {type(values).__name__}"))
        return {}
    return values


def read_overrides(overrides: Sequence[str]) -> ConfigSource:
    """Return the layer of dotted `key=value` overrides, values in YAML; raise ConfigError for all malformed ones."""
    problems: list[Problem] = []
    values: dict[str, Any] = {}
    for item in overrides:
        key, equals, written = item.partition("=")
        if not equals or not all(name.strip() for name in key.split(".")):
            problems.append(Problem(COMMAND_LINE, shown(item), "must be written key=value, such as stop.strings=[END]"))
            continue
        try:
            values = _merge(values, _plain(OmegaConf.from_dotlist([_hide(item)])))
            if wrong := other_number(written):
                problems.append(Problem(COMMAND_LINE, key, wrong))
        except UNREADABLE as error:
            problems.append(Problem(COMMAND_LINE, key, f"is not valid YAML: {_one_line(error)}"))
    if problems:
        raise ConfigError(problems)
    return ConfigSource(COMMAND_LINE, values)


def nested(overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Return dotted keys with their values, as Python writes them, as the mapping that they stand for."""
    values: dict[str, Any] = {}
    for key, value in overrides.items():
        layer: Any = value
        for name in reversed(key.split(".")):
            layer = {name: layer}
        values = _merge(values, layer)
    return values


def _merge(old: Any, new: Any) -> Any:
    if not isinstance(old, dict) or not isinstance(new, dict):
        return new
    return {**old, **{key: _merge(old.get(key), value) for key, value in new.items()}}


def compose(layers: Sequence[ConfigSource], parts: Sequence[str], main: str = "config") -> Composed:
    """Return the layers laid over each other; sections are merged key by key, a part whose name changes is replaced."""
    composed = Composed({}, {}, main)
    for layer in layers:
        for key, value in layer.values.items():
            _lay(composed, layer.origin, str(key), value, replaceable=key in parts)
    return composed


def _lay(composed: Composed, origin: str, key: str, value: Any, replaceable: bool) -> None:
    old = composed.values.get(key)
    if isinstance(old, dict) and isinstance(value, dict) and not (replaceable and _renames(old, value)):
        value_now = {**old, **value}
    else:
        value_now = value
        composed.values.pop(key, None)
        for known in [known for known in composed.origins if known == key or known.startswith(f"{key}.")]:
            del composed.origins[known]
    composed.values[key] = value_now
    composed.origins[key] = origin
    if isinstance(value, dict):
        composed.origins.update({f"{key}.{name}": origin for name in value})


def _renames(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    return "name" in new and new["name"] != old.get("name")


def _hide(text: str) -> str:
    return text.replace("${", _HIDDEN)


def _plain(node: Any) -> Any:
    return _show(OmegaConf.to_container(node, resolve=False))


def _show(value: Any) -> Any:
    if isinstance(value, str):
        return value.replace(_HIDDEN, "${")
    if isinstance(value, dict):
        return {_show(key): _show(item) for key, item in value.items()}
    return [_show(item) for item in value] if isinstance(value, list) else value


def _one_line(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    if isinstance(error, RecursionError) or "nesting depth" in str(error):  # PyYAML's own limit, from 6.0.4 on
        return "it is nested too deep"
    if mark is not None:
        return f"{getattr(error, 'problem', None) or 'syntax error'} (line {mark.line + 1}, column {mark.column + 1})"
    return str(error).partition("\n")[0]
