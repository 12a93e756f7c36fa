"""The views that come with this package, and where a view is that a config names."""

from __future__ import annotations

from pathlib import Path

from orthrus import InputError, Parts, Plugins, find_source, path_exists
from orthrus_diffusion.view_files.config import ViewConfig, parse_config, read_config

VIEWS = Path(__file__).parents[1] / "views"  # a directory for each: config.json, view.safetensors, README.md


def shipped_views() -> dict[str, ViewConfig]:
    """Return the config of every view that is shipped, by its name."""
    places = sorted(file.parent for file in VIEWS.glob("*/config.json"))
    return {directory.name: parse_config(read_config(directory), directory) for directory in places}


def shipped_for(fingerprint: str) -> Path | None:
    """Return the directory of the view that was made for the model with this fingerprint, or None."""
    names = [name for name, config in shipped_views().items() if config.fingerprint == fingerprint]
    return VIEWS / names[0] if names else None


def listing() -> str:
    """Return which views are shipped, as an error tells it."""
    views = [f"'{name}' for '{config.base}'" for name, config in shipped_views().items()]
    return f"shipped: {', '.join(views)}" if views else "none is shipped"


def view_directory(text: str) -> Path:
    """Return the directory of a path, or of a shipped view's name where there is no such path."""
    return VIEWS / text if not path_exists(text) and text in shipped_views() else Path(text).expanduser()


def find_view(text: str, parts: Parts) -> Path:
    """Return the directory that `drafter.view` names: as `fetched`; raise InputError if there is none."""
    try:
        return fetched(text, parts)
    except InputError as error:
        raise InputError(f"drafter.view: {error}; {listing()}") from error


def fetched(text: str, parts: Parts) -> Path:
    """Return the directory of a path that exists, of a shipped view's name, or of what any source may be.

    Raises InputError if there is none, or if it is no directory.
    """
    if not path_exists(text) and text in shipped_views():
        return VIEWS / text
    try:
        model_directory = find_source(text, Plugins.load(), parts).fetch()
    except InputError as error:
        raise InputError(str(error).removeprefix("target.source: ")) from error
    if not model_directory.is_dir():
        raise InputError(f"'{model_directory}' is no directory (`orthrus fetch` makes one of a .gguf file)")
    return model_directory
