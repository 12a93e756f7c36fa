"""The command `orthrus new`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from orthrus.cli.command_plugins import command_plugins
from orthrus.scaffold.package_names import free_names
from orthrus.scaffold.write_package import write_package
from orthrus.terminal import echo


def new(
    program: typer.Context,
    kind: Annotated[str, typer.Argument(metavar="KIND", help="drafter, verifier, cache, attention or target.")],
    name: Annotated[str, typer.Argument(metavar="NAME", help="What configs will call it, such as my_drafter.")],
    folder: Annotated[
        Path | None,
        typer.Argument(metavar="[DIR]", help="The package's folder, which must not exist; default: orthrus-NAME here."),
    ] = None,
) -> None:
    """Write the package of a new part: one that works, with its tests and a recipe, to begin from."""
    names = free_names(kind, name, command_plugins(program))
    written = folder or Path(names.distribution)
    for path in write_package(names, written):
        echo(f"{written}/{path}")
    place = written if written.is_absolute() else f"./{written}"
    echo(f"{names.described} that works; to install it with its tests: pip install -e '{place}[test]'")
