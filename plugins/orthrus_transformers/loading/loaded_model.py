"""A source that holds a model already in memory, and the plugin that registers it for one load."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orthrus import BuildError, Location, Parts, hookimpl
from orthrus.hookspecs import Register

SCHEME = "loaded"


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A model in memory; `fetch` has no files to give."""

    model: Any

    def fetch(self) -> Path:
        """Raise BuildError: whoever reads files cannot be given a model."""
        raise BuildError(f"target.source: '{SCHEME}:' is a model in memory, which has no files to read")

    @property
    def directory(self) -> Path | None:
        """The local directory that the model was loaded from, if its safetensors are there; else None."""
        directory = Path(getattr(self.model, "name_or_path", None) or "/nowhere")
        return directory if any(directory.glob("*.safetensors")) else None


class LoadedModelPlugin:
    """A plugin with the one source `loaded:`, whose model it holds."""

    def __init__(self, model: Any) -> None:
        self._source = LoadedModel(model)

    @hookimpl
    def register_sources(self, register: Register) -> None:
        """Register the source."""
        register(SCHEME, self._find)

    def _find(self, location: Location, parts: Parts) -> LoadedModel:
        return self._source
