"""The schema of a config, and how files, overrides and mappings become one; all errors are reported at once."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orthrus.config.compose import Composed, ConfigSource, compose, read_layers
from orthrus.config.recipes import find_config
from orthrus.errors import ConfigError, PluginError, Problem, shown, unknown
from orthrus.options import HasConflicts, HasSource, RequiresParts, option, parse
from orthrus.registry.catalog import DEFAULT, PARTS, RESERVED, Entry
from orthrus.registry.plugins import Plugins
from orthrus.settings import Sampling, Stop, WarmUp

NEEDED = ("target", "drafter", "verifier")
SECTIONS: Mapping[str, type] = {"sampling": Sampling, "stop": Stop, "warm_up": WarmUp}


@dataclass(frozen=True)
class PartConfig:
    """The choice of a part: its entry in the catalog and its options."""

    entry: Entry
    options: Any = None


@dataclass(frozen=True)
class Config:
    """A checked config. A part is None where nothing needs it, or where an object is given in its place."""

    target: PartConfig | None = None
    attention: PartConfig | None = None
    cache: PartConfig | None = None
    drafter: PartConfig | None = None
    verifier: PartConfig | None = None
    sampling: Sampling = field(default_factory=Sampling)
    stop: Stop = field(default_factory=Stop)
    warm_up: WarmUp = field(default_factory=WarmUp)
    seed: int = 0
    sections: Mapping[str, Any] = field(default_factory=dict)  # of plugins: those that are written, by name
    watchers: Mapping[str, PartConfig] = field(default_factory=dict)  # those that are written and not null, by name


@dataclass(frozen=True)
class _Scalars:
    seed: int = option(0, minimum=0, maximum=2**63 - 1, help="seed of every random choice")


@dataclass(frozen=True)
class NoOptions:
    """The options of a part that was registered without any."""


def load_config(
    source: str | Path | Mapping[str, Any],
    overrides: Sequence[ConfigSource],
    plugins: Plugins,
    given: Sequence[str] = (),
    missing_ok: Sequence[str] = (),
) -> Config:
    """Return the checked config of a file or mapping with overrides laid over it; raise ConfigError with all problems.

    source: a file, the name of a shipped config, or a mapping; InputError if there is no such file. given: parts that
    the caller has as objects; what the config says of them is passed over. missing_ok: parts that the config need not
    name.
    """
    return _load(source, overrides, plugins, given, missing_ok)[0]


def config_values(
    source: str | Path | Mapping[str, Any], overrides: Sequence[ConfigSource], plugins: Plugins
) -> dict[str, Any]:
    """Return what a config with overrides laid over it says, as one mapping; raise as `load_config` does."""
    return _load(source, overrides, plugins)[1].values


def _load(
    source: str | Path | Mapping[str, Any],
    overrides: Sequence[ConfigSource],
    plugins: Plugins,
    given: Sequence[str] = (),
    missing_ok: Sequence[str] = (),
) -> tuple[Config, Composed]:
    files: list[ConfigSource] = []
    problems: list[Problem] = []
    if isinstance(source, Mapping):
        overrides = [ConfigSource("config", source), *overrides]
    else:
        source = find_config(source)
        files, problems = read_layers(source)
    settings = [ConfigSource(override.origin, _plain(override.values)) for override in overrides]
    problems += [
        Problem(source.origin, "use", "only files can use files") for source in settings if "use" in source.values
    ]
    composed = compose([*files, *settings], PARTS, main=str(source) if files else "config")
    composed.values.pop("use", None)
    if DEFAULT in plugins.catalog.names("verifier"):
        composed.values.setdefault("verifier", {"name": DEFAULT})
    absent = PARTS if problems else missing_ok  # a part may stand in the file that could not be read
    config, more = _check(composed, plugins, given, absent)
    if problems or more:
        raise ConfigError([*problems, *more])
    return config, composed


def source_name(text: str) -> tuple[str, str]:
    """Return the name of a source and the location after it: ("hub", "owner/name") for "hub:owner/name".

    A text without a scheme belongs to the source `default`.
    """
    scheme = re.match(r"([a-z][a-z0-9_]+):", text)
    return (scheme.group(1), text[scheme.end() :]) if scheme else ("default", text)


def _plain(value: Any) -> Any:
    return {key: _plain(item) for key, item in value.items()} if isinstance(value, Mapping) else value


def _check(
    composed: Composed, plugins: Plugins, given: Sequence[str], missing_ok: Sequence[str]
) -> tuple[Config, list[Problem]]:
    values = composed.values
    problems: list[Problem] = []
    parts: dict[str, Any] = {}
    known = [*RESERVED, *plugins.catalog.names("section"), *plugins.catalog.names("watcher")]
    for key in values:
        if key not in known:
            problems.append(Problem(composed.origin(key), key, unknown("key", key, known)))
    for name in PARTS:
        if name in values and name not in given:
            parts[name], part_problems = _check_part(name, composed, plugins)
            problems += part_problems
    for name, schema in SECTIONS.items():
        parts[name], part_problems = _check_section(name, schema, composed)
        problems += part_problems
    sections, part_problems = _check_plugin_sections(composed, plugins)
    problems += part_problems
    watchers, part_problems = _check_watchers(composed, plugins)
    problems += part_problems
    scalars, wrong = parse(_Scalars, {"seed": values["seed"]} if "seed" in values else {})
    problems += [Problem(composed.origin(key), key, message) for key, message in wrong]
    problems += _missing_parts(composed, plugins, parts, (*given, *missing_ok))
    if None not in parts.values():
        config = Config(**parts, seed=scalars.seed if scalars else 0, sections=sections, watchers=watchers)
        problems += _conflicts(config, composed)
    return (Config() if problems else config), problems


def _check_part(name: str, composed: Composed, plugins: Plugins) -> tuple[PartConfig | None, list[Problem]]:
    value = composed.values[name]
    if not isinstance(value, dict) or not isinstance(value.get("name"), str):
        message = f"must be a mapping with the name of a {name}, such as {{name: ...}}, not {shown(value)}"
        return None, [Problem(composed.origin(name), name, message)]
    try:
        entry = plugins.get(name, value["name"])
        schema = entry.load_options()
    except PluginError as error:
        return None, [Problem(composed.origin(f"{name}.name"), f"{name}.name", str(error))]
    options = {key: item for key, item in value.items() if key != "name"}
    checked, wrong = parse(schema or NoOptions, options)
    wrong += _unknown_source(checked, plugins)
    problems = [Problem(composed.origin(f"{name}.{key}"), f"{name}.{key}", message) for key, message in wrong]
    return (None if problems else PartConfig(entry, checked)), problems


def _unknown_source(options: Any, plugins: Plugins) -> Iterator[tuple[str, str]]:
    """Yield a problem if options (of a target) name a source by a scheme that no plugin knows."""
    source = options.source if isinstance(options, HasSource) else None
    try:
        if isinstance(source, str):
            plugins.get("source", source_name(source)[0])
    except PluginError as error:
        yield "source", f"'{source}': {error}"


def _check_section(name: str, schema: type, composed: Composed) -> tuple[Any, list[Problem]]:
    value = composed.values.get(name, {})
    if not isinstance(value, dict):
        return None, [Problem(composed.origin(name), name, f"must be a mapping, not {shown(value)}")]
    section, wrong = parse(schema, value)
    return section, [Problem(composed.origin(f"{name}.{key}"), f"{name}.{key}", message) for key, message in wrong]


def _check_plugin_sections(composed: Composed, plugins: Plugins) -> tuple[dict[str, Any], list[Problem]]:
    """Return the sections of plugins that the config has."""
    sections: dict[str, Any] = {}
    problems: list[Problem] = []
    for name in plugins.catalog.names("section"):
        if name in composed.values:
            sections[name], section_problems = _check_section(
                name, plugins.get("section", name).load_factory(), composed
            )
            problems += section_problems
    return sections, problems


def _check_watchers(composed: Composed, plugins: Plugins) -> tuple[dict[str, PartConfig], list[Problem]]:
    """Return the watchers that the config switches on; one that is null is off."""
    watchers: dict[str, PartConfig] = {}
    problems: list[Problem] = []
    for name in plugins.catalog.names("watcher"):
        if composed.values.get(name) is not None:
            entry = plugins.get("watcher", name)
            options, option_problems = _check_section(name, entry.load_options() or NoOptions, composed)
            watchers[name] = PartConfig(entry, options)
            problems += option_problems
    return watchers, problems


def _missing_parts(
    composed: Composed, plugins: Plugins, parts: Mapping[str, Any], needless: Sequence[str]
) -> Iterator[Problem]:
    """Yield a problem for each part that is needed but not there; a target's options say what else it `requires`."""
    target = parts.get("target")
    options = target.options if target is not None else None
    asked = dict.fromkeys(NEEDED, "")
    for name in options.requires if isinstance(options, RequiresParts) else ():
        asked[name] = f", which target '{composed.values['target']['name']}' needs"
    for name, why in asked.items():
        if name not in composed.values and name not in needless:
            known = ", ".join(plugins.catalog.names(name)) or "none"
            yield Problem(composed.main, name, f"the config names no {name}{why}; known: {known}")


def _conflicts(config: Config, composed: Composed) -> Iterator[Problem]:
    """Yield what parts say of the rest of the config: options may have a method `conflicts(config)`."""
    for name in PARTS:
        part = getattr(config, name)
        if part is not None and isinstance(part.options, HasConflicts):
            for key, message in part.options.conflicts(config):
                yield Problem(composed.origin(key), key, message)
