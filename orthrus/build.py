"""The composition root: the only place where names become parts."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from orthrus import interfaces
from orthrus.config.compose import ConfigSource, nested, read_overrides
from orthrus.config.schema import Config, PartConfig, config_values, load_config, source_name
from orthrus.decoder import Decoder
from orthrus.errors import BuildError, OrthrusError, reason, unknown
from orthrus.one_pass import check_one_pass
from orthrus.options import HasSource
from orthrus.ranks.together import SharedTarget, together_of
from orthrus.registry.catalog import PARTS
from orthrus.registry.contracts import check_interface
from orthrus.registry.plugins import Plugins
from orthrus.registry.watchers import Watchers, check_watcher
from orthrus.settings import WarmUp
from orthrus.trees import check_trees
from orthrus.values import Location, Parts

TargetKey = tuple[PartConfig | None, PartConfig | None, PartConfig | None]
T = TypeVar("T")
MAKES = {  # and with what
    "attention": ("attention",),
    "cache": ("cache",),
    "target": ("attention", "cache", "target"),
    "drafter": ("drafter",),
}


def load(
    config: str | Path | Mapping[str, Any],
    *,
    plugins: Sequence[object] | Plugins = (),
    notify: Callable[[str], None] | None = None,
    dotted: Sequence[str] = (),
    **overrides: Any,
) -> Decoder:
    """Return the decoder that a config file or mapping composes.

    overrides: a section or part by name, as a mapping (merged over the config's) or, for a part, as an object that is
    used as it is: `load(path, stop={"max_new_tokens": 64}, target=decoder.target)`; or a dotted key with its value,
    `**{"stop.max_new_tokens": 64}`. dotted: the same as the command line writes it, `["drafter.name=none"]`.
    plugins: further plugin objects, or the session's own Plugins.
    notify: called with a sentence before something slow. Raises ConfigError, PluginError, InputError or BuildError.
    """
    session = plugins if isinstance(plugins, Plugins) else Plugins.load(plugins)
    objects = {key: value for key, value in overrides.items() if key in PARTS and not _is_setting(value)}
    paths = {key: value for key, value in overrides.items() if "." in key}
    settings = {key: _named(key, value) for key, value in overrides.items() if key not in {**objects, **paths}}
    layers = [ConfigSource("argument", settings), ConfigSource("argument", nested(paths)), read_overrides(dotted)]
    for name in ("attention", "cache"):
        if "target" in objects and any(name in layer.values for layer in layers):
            raise BuildError(f"{name}: the target object brings its own; give the target as options to choose another")
    checked = load_config(config, layers, session, given=list(objects))
    return build(checked, session, objects, notify)


def read_sections(
    config: str | Path | Mapping[str, Any],
    *,
    plugins: Sequence[object] | Plugins = (),
    dotted: Sequence[str] = (),
) -> Mapping[str, Any]:
    """Return the sections of plugins in a config, by name, each its dataclass; the whole config is checked.

    A section that is not written is not there. Raises ConfigError or PluginError.
    """
    session = plugins if isinstance(plugins, Plugins) else Plugins.load(plugins)
    return load_config(config, [read_overrides(dotted)], session).sections


def read_config(
    config: str | Path | Mapping[str, Any],
    *,
    plugins: Sequence[object] | Plugins = (),
    dotted: Sequence[str] = (),
) -> dict[str, Any]:
    """Return what a config says, with what it uses and overrides laid over it, as one mapping.

    `load` takes it, on another machine, too, which need not have the files. The whole config is checked; raises
    ConfigError, PluginError, or InputError if there is no such file.
    """
    session = plugins if isinstance(plugins, Plugins) else Plugins.load(plugins)
    return config_values(config, [read_overrides(dotted)], session)


def build(
    config: Config,
    plugins: Plugins,
    objects: Mapping[str, Any] | None = None,
    notify: Callable[[str], None] | None = None,
) -> Decoder:
    """Return the decoder of a checked config; objects take the place of parts."""
    given = dict(objects or {})
    for name, part in given.items():
        check_interface(name, part, f"the object given as {name}")
    parts = _assemble(PARTS, config, plugins, given, notify)
    _check_fit(parts, config)
    listeners: list[object] = []
    if together_of(parts.target).leads:  # of ranks that decode together one tells, and writes files
        listeners = [*plugins.listeners, *(_make_watcher(chosen, parts) for chosen in config.watchers.values())]
    decoder = Decoder.of(parts.target, parts.drafter, parts.verifier, config.stop, config.seed, config.sampling)
    if config.warm_up.rows:
        _warm_up(decoder, config.warm_up, notify)
    return dataclasses.replace(decoder, watchers=Watchers(listeners)) if listeners else decoder


def build_target(
    config: Config,
    plugins: Plugins,
    notify: Callable[[str], None] | None = None,
    objects: Mapping[str, Any] | None = None,
) -> interfaces.Target:
    """Return the target of a checked config, with its attention and cache, for several decoders to share.

    objects: an attention or cache that takes the place of the config's.
    """
    parts = _assemble(("attention", "cache", "target"), config, plugins, objects or {}, notify)
    target: interfaces.Target = parts.target
    return target


class TargetPool(Generic[T]):
    """Targets, or what is made around them: configs that agree in target, attention and cache share one."""

    def __init__(self, make: Callable[[Config], T]) -> None:
        self._make = make
        self._held: list[tuple[TargetKey, T]] = []

    def __len__(self) -> int:
        return len(self._held)

    def of(self, config: Config) -> T:
        """Return what is made for a config, now if it was not before."""
        key = _target_key(config)
        for known, target in self._held:
            if known == key:
                return target
        self._held.append((key, self._make(config)))
        return self._held[-1][1]

    def keep_only(self, configs: Sequence[Config]) -> list[T]:
        """Forget, and return, what none of the configs asks for."""
        keys = [_target_key(config) for config in configs]
        dropped = [target for key, target in self._held if key not in keys]
        self._held = [(key, target) for key, target in self._held if key in keys]
        return dropped


def _target_key(config: Config) -> TargetKey:
    return config.target, config.attention, config.cache


def build_part(name: str, chosen: PartConfig, parts: Parts) -> Any:
    """Return one part, made from those that are built before it; raise BuildError if it cannot be."""
    return _make(name, chosen, parts)


def build_baseline(
    chosen: PartConfig, target: interfaces.Target, notify: Callable[[str], None] | None = None
) -> interfaces.Baseline:
    """Return a baseline that answers with a target's model."""
    baseline: interfaces.Baseline = _make("baseline", chosen, Parts(target=target, notify=notify or _ignore))
    return baseline


def _assemble(
    names: Sequence[str],
    config: Config,
    plugins: Plugins,
    given: Mapping[str, Any],
    notify: Callable[[str], None] | None,
) -> Parts:
    """Return the parts of these names, in building order, made or given."""
    parts = Parts(notify=notify or _ignore, make=PartMaker(config, plugins, notify or _ignore))
    for name in names:
        chosen: PartConfig | None = getattr(config, name)
        if name in given:
            parts = dataclasses.replace(parts, **{name: given[name]})
        elif chosen is not None and not _unneeded(name, given):
            options = chosen.options
            if name == "drafter":
                parts = with_drafters(parts)
            if name == "target" and isinstance(options, HasSource) and isinstance(options.source, str):
                parts = dataclasses.replace(parts, source=find_source(options.source, plugins, parts))
            parts = dataclasses.replace(parts, **{name: _make(name, chosen, parts)})
            if name == "target":
                _check_same_config(parts.target, config)
    return parts


def _check_same_config(target: interfaces.Target, config: Config) -> None:
    """Raise GroupError if the processes that share a target were given different configs."""
    if isinstance(target, SharedTarget) and target.group is not None:
        chosen = {name: getattr(config, name) for name in PARTS}
        facts = {name: "none" if part is None else f"{part.entry.name} {part.options}" for name, part in chosen.items()}
        sections = {name: getattr(config, name) for name in ("sampling", "stop", "warm_up", "seed")}
        target.group.check_same({**facts, **sections})


@dataclass(frozen=True)
class PartMaker:
    """Builds further parts for parts, as the config's own are built (see `MakePart`)."""

    config: Config
    plugins: Plugins
    notify: Callable[[str], None]
    parts: Parts | None = None  # those that further drafters are made from; None: they are not there yet

    def __call__(self, kind: str, options: Mapping[str, Any] | None = None) -> Any:
        """Return a new part of a kind, with these options or those of the config."""
        if kind not in MAKES:
            raise BuildError(f"Parts.make: {unknown('kind of part', kind, MAKES)}")
        if kind == "drafter":
            return self._drafter(options)
        settings = self._settings(kind, options or {})
        written = load_config(settings, [], self.plugins, missing_ok=PARTS) if settings else Config()
        chosen = {name: getattr(written, name) or getattr(self.config, name) for name in MAKES[kind]}
        if chosen[kind] is None:
            raise BuildError(f"{kind}: the config names none, so its options must be given, with a name")
        config = dataclasses.replace(self.config, **chosen)
        return getattr(_assemble(MAKES[kind], config, self.plugins, {}, self.notify), kind)

    def _drafter(self, options: Mapping[str, Any] | None) -> interfaces.Drafter:
        """Return a drafter for the target that is there; the config's own drafter is being made."""
        if self.parts is None:
            raise BuildError("Parts.make: further drafters are made by drafters, once there is a target")
        if not options:
            raise BuildError("drafter: the options of a further drafter must be given, with a name")
        written = load_config({"drafter": options}, [], self.plugins, missing_ok=PARTS)
        assert written.drafter is not None, "it is written"
        drafter: interfaces.Drafter = _make("drafter", written.drafter, with_drafters(self.parts))
        return drafter

    def _settings(self, kind: str, options: Mapping[str, Any]) -> dict[str, Any]:
        beside = {name: options[name] for name in MAKES[kind] if name != kind and name in options}
        own = {name: value for name, value in options.items() if name not in beside}
        return {**beside, **({kind: own} if own else {})}


def with_drafters(parts: Parts) -> Parts:
    """Return parts whose `make` builds further drafters from them, which may build drafters in their turn."""
    maker = parts.make
    if not isinstance(maker, PartMaker):
        return parts
    return dataclasses.replace(parts, make=dataclasses.replace(maker, parts=parts))


def _ignore(message: str) -> None: ...


def _is_setting(value: Any) -> bool:
    return isinstance(value, (str, Mapping))


def _named(key: str, value: Any) -> Any:
    return {"name": value} if key in PARTS and isinstance(value, str) else value


def _unneeded(name: str, given: Mapping[str, Any]) -> bool:
    # A target object brings its own attention and cache.
    return name in ("attention", "cache") and "target" in given


def find_source(text: str, plugins: Plugins, parts: Parts) -> interfaces.Source:
    """Return the source that a text such as `package:module/file` names, chosen by the scheme before the colon."""
    name, location = source_name(text)
    source: interfaces.Source = plugins.get("source", name).load_factory()(Location(location), parts)
    return source


def _make(name: str, chosen: PartConfig, parts: Parts) -> Any:
    what = _described(name, chosen)
    part = _call_factory(what, chosen, parts)
    check_interface(name, part, what)
    return part


def _make_watcher(chosen: PartConfig, parts: Parts) -> Any:
    what = _described("watcher", chosen)
    watcher = _call_factory(what, chosen, parts)
    check_watcher(watcher, what)
    return watcher


def _described(name: str, chosen: PartConfig) -> str:
    return f"{name} '{chosen.entry.name}' of plugin '{chosen.entry.origin}'"


def _call_factory(what: str, chosen: PartConfig, parts: Parts) -> Any:
    try:
        return chosen.entry.load_factory()(chosen.options, parts)
    except OrthrusError:
        raise
    except Exception as error:
        raise BuildError(f"{what} could not be made: {reason(error)}") from error


def _check_fit(parts: Parts, config: Config) -> None:
    lacking = sorted(set(parts.drafter.needs) - set(parts.target.capabilities))
    if lacking:
        raise BuildError(
            f"drafter '{_name(parts.drafter, config.drafter)}' needs {', '.join(lacking)}, which target"
            f" '{_name(parts.target, config.target)}' does not offer"
        )
    kinds = ("target", "drafter", "verifier", "attention", "cache")
    names = {kind: chosen.entry.name for kind in kinds if (chosen := getattr(config, kind)) is not None}
    check_trees(parts.target, parts.drafter, parts.verifier, names)
    check_one_pass(parts.target, parts.drafter, names)
    if parts.verifier.greedy and config.sampling.temperature > 0:
        raise BuildError(
            f"verifier '{_name(parts.verifier, config.verifier)}' decodes greedily: sampling.temperature must be 0,"
            f" not {config.sampling.temperature:g}"
        )


def _warm_up(decoder: Decoder, settings: WarmUp, notify: Callable[[str], None] | None) -> None:
    """Warm a decoder up; who is to be notified sees a bar, and is told if the time was too short."""
    from orthrus.progress import bar  # not needed by who warms nothing up
    from orthrus.warm_up import shapes, warm_up

    with bar("warming up", len(shapes(decoder, settings)), shown=notify is not None) as advance:
        clock = together_of(decoder.target).clock(time.perf_counter)  # ranks end at the same place
        report = warm_up(decoder, settings, advance, clock)
    if notify and report.done < report.planned:
        notify(
            f"warming up ended after {report.seconds:.0f} s, with {report.done} of {report.planned} batches and lengths"
            " done; set warm_up.seconds to give it longer, or fewer warm_up.rows and warm_up.tokens"
        )


def _name(part: Any, chosen: PartConfig | None) -> str:
    return chosen.entry.name if chosen else type(part).__name__
