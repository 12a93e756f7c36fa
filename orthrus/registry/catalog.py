"""The registry of parts: kind and name to factory, options and origin."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from orthrus.errors import PluginError, reason, unknown
from orthrus.options import describe

PARTS = ("attention", "cache", "target", "drafter", "verifier")  # of a decoder, in building order
RESERVED = (*PARTS, "sampling", "stop", "warm_up", "seed", "use")  # what a config has of itself
DEFAULT = "default"  # the verifier of a config that names none
PLAIN = "none"  # the drafter that drafts nothing: plain decoding, which others are held against
KINDS = {  # kind: hook
    "target": "register_targets",
    "drafter": "register_drafters",
    "verifier": "register_verifiers",
    "cache": "register_caches",
    "attention": "register_attention_backends",
    "source": "register_sources",
    "baseline": "register_baselines",
    "section": "register_sections",
    "watcher": "register_watchers",
    "command": "register_commands",
}
WATCH_HOOKS = ("after_step", "after_generation")  # of watchers, and of plugins that listen to every decoding


@dataclass(frozen=True)
class Entry:
    """One registered part; factory and options are resolved when first needed."""

    kind: str
    name: str
    factory: Any
    options: Any
    origin: str
    version: str

    def load_factory(self) -> Any:
        """Return the factory, importing it if it was registered by its place; raise PluginError if it is not there."""
        return _resolve(self.factory, self)

    def load_options(self) -> type | None:
        """Return the options' dataclass, or None if the part has no options; raise PluginError if it is none."""
        if self.options is None:
            return None
        schema: type = _resolve(self.options, self)
        try:
            list(describe(schema))
        except Exception as error:  # no dataclass, or one whose types name what is not there
            raise PluginError(
                f"the options of {self.kind} '{self.name}' of plugin '{self.origin}' cannot be used: {reason(error)}"
            ) from error
        return schema


class Catalog:
    """The entries of one session; a name taken twice cannot be used, whoever came first."""

    def __init__(self) -> None:
        self._entries: dict[tuple[str, str], list[Entry]] = {}

    def add(self, entry: Entry) -> None:
        """Add an entry; one whose name is taken is kept beside the first, so that the error can show both."""
        self._entries.setdefault((entry.kind, entry.name), []).append(entry)

    def remove(self, origin: str) -> None:
        """Drop everything that a plugin registered."""
        remaining = {
            key: [entry for entry in entries if entry.origin != origin] for key, entries in self._entries.items()
        }
        self._entries = {key: entries for key, entries in remaining.items() if entries}

    def names(self, kind: str) -> list[str]:
        """Return the names of a kind, sorted."""
        return sorted(name for entry_kind, name in self._entries if entry_kind == kind)

    def get(self, kind: str, name: str) -> Entry:
        """Return the entry; raise PluginError if the name is unknown or taken twice."""
        entries = self._entries.get((kind, name))
        if not entries:
            raise PluginError(unknown(kind, name, self.names(kind)))
        if len(entries) > 1:
            raise PluginError(conflict(entries))
        return entries[0]

    def conflicts(self) -> list[list[Entry]]:
        """Return the entries of each name taken twice."""
        return [entries for entries in self._entries.values() if len(entries) > 1]

    def __iter__(self) -> Iterator[Entry]:
        """Iterate over all entries, by kind and name."""
        order = list(KINDS)
        for _key, entries in sorted(self._entries.items(), key=lambda item: (order.index(item[0][0]), item[0][1])):
            yield from entries


def conflict(entries: list[Entry]) -> str:
    """Return the sentence for a name that several plugins registered."""
    origins = " and ".join(f"'{entry.origin}' ({entry.version})" for entry in entries)
    return f"{entries[0].kind} '{entries[0].name}' is registered twice, by {origins}; uninstall one of them"


def _resolve(value: Any, entry: Entry) -> Any:
    if not isinstance(value, str):
        return value
    module, _, name = value.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except Exception as error:  # a plugin may fail in any way; the cause is chained and shown
        raise PluginError(
            f"{entry.kind} '{entry.name}' of plugin '{entry.origin}' cannot be imported from '{value}': {reason(error)}"
        ) from error
