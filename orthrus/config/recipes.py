"""The configs that come with the package, found by name from any folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from orthrus.errors import InputError, unknown
from orthrus.files import path_exists, short_path

PACKAGE = Path(__file__).parents[1]
FOLDERS = (PACKAGE / "configs", PACKAGE.parent / "configs")  # of an installed wheel, of a clone
RECIPES = "recipes"
SUFFIXES = (".yaml", ".yml")


def shipped_configs() -> Mapping[str, Path]:
    """Return the files by name, recipes first: those by their own, others by their folder's, too, as `parts/greedy`."""
    folder = next((folder for folder in FOLDERS if folder.is_dir()), FOLDERS[0])
    files = sorted(folder.rglob("*.yaml"), key=lambda path: (path.parent.name != RECIPES, path))
    return {path.relative_to(folder).with_suffix("").as_posix().removeprefix(f"{RECIPES}/"): path for path in files}


def describe_config(file: Path) -> str:
    """Return what the head of a file says of it, without the commands there."""
    lines = file.read_text(encoding="utf-8").splitlines()
    head = [line.removeprefix("#") for line in lines[: next(n for n, line in enumerate(lines) if line[:1] != "#")]]
    said = " ".join(line.strip() for line in head if not line.startswith("   "))
    return said.removesuffix(":")


def find_config(source: str | Path) -> Path:
    """Return the file of a path, or else the shipped config of this name; raise InputError if there is neither.

    A folder that has the name of a shipped config does not hide it.
    """
    path, known = Path(source), shipped_configs()
    if str(source) in known and not _is_file(path):
        return known[str(source)]
    if path_exists(path):
        return path
    missing = f"there is no config file '{short_path(source)}'"
    if path.suffix in SUFFIXES or len(str(source)) > len(short_path(source)):
        raise InputError(missing)
    raise InputError(f"{missing}; {unknown('recipe', str(source), known)}")


def _is_file(path: Path) -> bool:
    return path_exists(path) and not path.is_dir()
