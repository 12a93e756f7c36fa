"""Sources of models: a path, a file inside an installed package, a repository on the hub, or a published shape.

A shape is a model of random weights, for measuring speed without its files.
"""

from __future__ import annotations

import difflib
import importlib.util
import re
from dataclasses import dataclass
from importlib.machinery import PathFinder
from pathlib import Path

from orthrus import InputError, Location, Parts
from orthrus.errors import reason
from orthrus.files import path_exists
from orthrus_transformers.loading.quiet import without_hub_bars

SHAPES = Path(__file__).parent / "shapes"  # a directory with a config.json for each
HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*(@[\w./-]+)?")  # so neither ./name nor ../name
WANTED = ["*.safetensors", "*.json", "*.txt", "*.model", "*.jinja"]  # no pickles, no code


@dataclass(frozen=True)
class PathSource:
    """A local file or directory."""

    location: str

    def fetch(self) -> Path:
        """Return the path; raise InputError if it does not exist."""
        path = _expanded(self.location)
        if not path_exists(path):
            raise InputError(f"target.source: there is no file or directory '{self.location[:200]}'")
        return path


@dataclass(frozen=True)
class PackageSource:
    """A file inside an installed Python package, written MODULE/FILE."""

    location: str

    def fetch(self) -> Path:
        """Return the file's path without importing the package; raise InputError if either is missing."""
        module, _, file = self.location.partition("/")
        if not module or not file:
            raise InputError(f"target.source: 'package:{self.location}' must be written package:MODULE/FILE")
        if ".." in Path(file).parts or Path(file).is_absolute():
            raise InputError(f"target.source: 'package:{self.location[:200]}' must name a file inside the package")
        for folder in _package_folders(module):
            if path_exists(folder / file):
                return folder / file
        raise InputError(f"target.source: there is no file '{file}' in the package '{module}'")


@dataclass(frozen=True)
class HubSource:
    """A repository on the Hugging Face hub, written owner/name or owner/name@revision."""

    location: str
    notify: object = None

    def fetch(self) -> Path:
        """Return the local snapshot, downloading what is missing; raise InputError if it cannot be had."""
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import LocalEntryNotFoundError

        repository, _, revision = self.location.partition("@")
        if callable(self.notify):
            self.notify(f"fetching {self.location} from the hub")
        try:
            with without_hub_bars():
                return Path(snapshot_download(repository, revision=revision or None, allow_patterns=WANTED))
        except LocalEntryNotFoundError as error:
            raise InputError(
                f"target.source: '{self.location}' is no local path, it is not in the hub's cache on this machine,"
                " and the hub cannot be reached (no network, or HF_HUB_OFFLINE is set)"
            ) from error
        except Exception as error:  # the hub's client raises errors of many libraries; the cause is chained
            raise InputError(
                f"target.source: '{self.location}' is no local path and could not be had from the hub ({reason(error)})"
            ) from error


def path_source(options: Location, parts: Parts) -> PathSource:
    """Return the source for `path:...`."""
    return PathSource(options.location)


def package_source(options: Location, parts: Parts) -> PackageSource:
    """Return the source for `package:MODULE/FILE`."""
    return PackageSource(options.location)


def hub_source(options: Location, parts: Parts) -> HubSource:
    """Return the source for `hub:owner/name`."""
    return HubSource(options.location, parts.notify)


def default_source(options: Location, parts: Parts) -> PathSource | HubSource:
    """Return the source for a text without a scheme: a path that exists, or else a hub id."""
    exists = path_exists(options.location)
    if not exists and HUB_ID.fullmatch(options.location) and not options.location.endswith(".gguf"):
        return HubSource(options.location, parts.notify)
    return PathSource(options.location)


def _expanded(text: str) -> Path:
    try:
        return Path(text).expanduser()
    except RuntimeError:  # there is no such user; then there is no such path
        return Path(text)


def _package_folders(module: str) -> list[Path]:
    """Return the folders of an installed package; `find_spec` would import those that a dotted name lies in."""
    folders: list[str] | None = None
    for index in range(len(names := module.split("."))):
        name = ".".join(names[: index + 1])
        try:
            spec = PathFinder.find_spec(name, folders) if folders else importlib.util.find_spec(name)
        except (ImportError, ValueError):
            spec = None
        if spec is None or spec.submodule_search_locations is None:
            raise InputError(f"target.source: there is no installed package '{module[:200]}'")
        folders = list(spec.submodule_search_locations)
    return [Path(folder) for folder in folders or ()]


@dataclass(frozen=True)
class ShapeSource:
    """A named shape."""

    location: str

    def fetch(self) -> Path:
        """Return the directory with the shape's config.json, which asks for random weights; InputError if unknown."""
        known = shape_names()
        if self.location in known:
            return SHAPES / self.location
        close = difflib.get_close_matches(self.location, known, n=1)
        hint = f" (did you mean '{close[0]}'?)" if close else ""
        raise InputError(f"target.source: unknown shape '{self.location}'{hint}; known: {', '.join(known)}")


def shape_names() -> list[str]:
    """Return the names of all shapes."""
    return sorted(path.parent.name for path in SHAPES.glob("*/config.json"))


def shape_source(options: Location, parts: Parts) -> ShapeSource:
    """Return the source for `shape:...`."""
    return ShapeSource(options.location)
