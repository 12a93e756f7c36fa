"""Writes a new plugin package into a folder that does not exist yet."""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from string import Template

from orthrus.errors import InputError
from orthrus.files import short_path
from orthrus.scaffold.package_names import PackageNames
from orthrus.unfinished_files import open_to_readers, unfinished

SUFFIX = ".template"
COMMON = "common"  # the templates that packages of every kind have


def write_package(names: PackageNames, folder: Path) -> list[str]:
    """Write the package's files and return their paths within the folder, sorted.

    The folder appears when all of it is written. Raises InputError, one sentence, if there is something of its name, or
    if nothing can be written there.
    """
    if os.path.lexists(folder):
        raise InputError(f"'{short_path(folder)}' exists already, and nothing in it was changed; name another folder")
    texts = dict(package_files(names))
    try:
        with unfinished(folder, folder=True) as lent:
            for path, text in texts.items():
                file = lent / path
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(text, encoding="utf-8")
            open_to_readers(lent)
            lent.rename(folder)
    except OSError as error:
        raise InputError(f"'{short_path(folder)}' cannot be written: {error.strerror or error}") from error
    return sorted(texts)


def package_files(names: PackageNames) -> Iterator[tuple[str, str]]:
    """Yield path and text of each file of a package."""
    templates = files("orthrus.scaffold") / "templates"
    for directory in (templates / COMMON, templates / names.kind):
        for file, template in _templates(directory):
            path = file.removesuffix(SUFFIX).replace("PACKAGE", names.package).replace("NAME", names.name)
            yield path, Template(template).substitute(names.substitutions())


def _templates(directory: Traversable, above: str = "") -> Iterator[tuple[str, str]]:
    for entry in directory.iterdir():
        if entry.is_dir():
            yield from _templates(entry, f"{above}{entry.name}/")
        elif entry.name.endswith(SUFFIX):
            yield f"{above}{entry.name}", entry.read_text(encoding="utf-8")
