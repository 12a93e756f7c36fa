"""Every hook: those that supply parts by name, and those that watch.

docs/reference/hooks.md says when each is called and gives an example.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import pluggy

if TYPE_CHECKING:
    from orthrus.watched import WatchedGeneration, WatchedStep

PROJECT = "orthrus"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


class Register(Protocol):
    """Take one part of a plugin."""

    def __call__(self, name: str, factory: object, options: object = None) -> None:
        """Register `factory(options, parts)` under a name; options: its dataclass.

        Both may be written "module:Name", so that listing plugins imports neither.
        """


@hookspec
def register_targets(register: Register) -> None:
    """Register targets: models whose text is produced."""


@hookspec
def register_drafters(register: Register) -> None:
    """Register drafters: what proposes tokens."""


@hookspec
def register_verifiers(register: Register) -> None:
    """Register verifiers: what decides how much of a draft is kept."""


@hookspec
def register_caches(register: Register) -> None:
    """Register KV caches."""


@hookspec
def register_attention_backends(register: Register) -> None:
    """Register attention backends."""


@hookspec
def register_sources(register: Register) -> None:
    """Register sources: schemes under which a target's files are found; `default` is a source without a scheme."""


@hookspec
def register_baselines(register: Register) -> None:
    """Register baselines: other ways to decode with a target's model, which `orthrus bench` measures beside ours."""


@hookspec
def register_sections(register: Register) -> None:
    """Register sections of a config beside its parts; the factory is the dataclass of the section's options."""


@hookspec
def register_watchers(register: Register) -> None:
    """Register watchers: what is told of each step and each request that has ended, where a config has its key."""


@hookspec
def register_commands(register: Register) -> None:
    """Register commands of the `orthrus` program; the factory is the typer function, or a `typer.Typer` of several."""


@hookspec
def after_step(step: WatchedStep) -> None:
    """Take note of a step that has been committed; of a watcher, or of a plugin that listens to every decoder."""


@hookspec
def after_generation(generation: WatchedGeneration) -> None:
    """Take note of a request that has ended with a result, after its last step; one that `failed` has none."""
