"""Decodes the prompts of a trial: one target at a time, and the drafter made anew for each trial."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from orthrus.build import TargetPool, build, build_target
from orthrus.config.compose import ConfigSource
from orthrus.config.schema import Config, load_config
from orthrus.decoder import Decoder
from orthrus.doctor.trials import PlannedTrial
from orthrus.errors import InputError, OrthrusError
from orthrus.interfaces import Target
from orthrus.prompts import PromptRecord
from orthrus.registry.catalog import PLAIN
from orthrus.registry.plugins import Plugins
from orthrus.values import Result


@dataclass(frozen=True)
class Outcome:
    """What a trial gave: its results, or why it could not be tried."""

    results: tuple[Result, ...] = ()
    refused: str | None = None


class TrialRunner:
    """Decode a config's prompts as it is, and with one thing changed."""

    def __init__(
        self,
        source: Path | Mapping[str, Any],
        overrides: ConfigSource,
        plugins: Plugins,
        prompts: Sequence[PromptRecord],
        *,
        batch: int = 8,
        notify: Callable[[str], None] | None = None,
    ) -> None:
        """Check the config; raise ConfigError if it is wrong, InputError if it drafts nothing."""
        self._source, self._overrides, self._plugins = source, overrides, plugins
        self._records, self._batch, self._notify = prompts, batch, notify
        self.config = self._checked({})
        assert self.config.drafter is not None, "a config without a drafter is refused"
        if self.config.drafter.entry.name == PLAIN:
            raise InputError(f"drafter.name: '{PLAIN}' drafts nothing, so there is nothing to find out about it")
        self._targets: TargetPool[Target] = TargetPool(lambda config: build_target(config, plugins, notify))

    def decoder(self, config: Config | None = None) -> Decoder:
        """Return the decoder of the config, or of another one, whose target takes the place of the one before."""
        config = config or self.config
        self._targets.keep_only([config])
        return build(config, self._plugins, {"target": self._targets.of(config)}, self._notify)

    def decode(self, decoder: Decoder, chat: bool | None = None) -> tuple[Result, ...]:
        """Return the results of all prompts; chat: see `PlannedTrial`."""
        ids, texts = [record.id for record in self._records], [record.prompt for record in self._records]
        unwatched = replace(decoder, watchers=None)  # a trial is no use of the decoder
        return tuple(unwatched.generate(texts, ids=ids, batch=self._batch, chat=chat))

    def attempt(self, trial: PlannedTrial) -> Outcome:
        """Return what a trial gives; one that the parts refuse says so."""
        try:
            config = self.config if trial.chat is not None else self._checked(trial.write)
            return Outcome(self.decode(self.decoder(config), trial.chat))
        except OrthrusError as error:
            return Outcome(refused=" ".join(str(error).split()))
        except (torch.OutOfMemoryError, MemoryError):  # where a trial is in a wider dtype; the others are not lost
            return Outcome(refused="it needs more memory than there is")

    def _checked(self, write: Mapping[str, Any]) -> Config:
        return load_config(self._source, [self._overrides, ConfigSource("trial", write)], self._plugins)
