"""Arguments that several commands share."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from orthrus.errors import InputError
from orthrus.files import short_path

WRITTEN = ("--out", "--plot")  # flags of files


ConfigFile = Annotated[
    Path, typer.Option("--config", help="A run file, or the name of one that `orthrus recipes` lists.")
]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY=VALUE]...", help="Overrides, such as drafter.name=none stop.max_new_tokens=64."),
]
Batch = Annotated[int, typer.Option("--batch", help="How many prompts are decoded at a time.")]
Limit = Annotated[int | None, typer.Option("--limit", help="Only the first prompts of the file.", min=1)]
Raw = Annotated[bool, typer.Option("--raw", help="Take prompts as they are, without the model's chat template.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else, on standard output.")]


def check_place(flag: str, path: Path) -> None:
    """Raise InputError, before anything is measured, if nothing could be written there."""
    try:
        there = path.is_dir()
    except OSError as error:
        raise InputError(f"{flag}: '{short_path(path)}' can be no file: {error.strerror}") from error
    if there:
        raise InputError(f"{flag}: '{path}' is a directory")
    above = next(parent for parent in path.absolute().parents if parent.exists())
    if not above.is_dir() or not os.access(above, os.W_OK):
        raise InputError(f"{flag}: nothing can be written to '{above}'")


def without_folder(arguments: list[str], flags: tuple[str, ...] = WRITTEN) -> list[str]:
    """Return a command's arguments with only the names of the files of some flags: the folder is the machine's."""
    split = [argument.partition("=") for argument in arguments]
    words = [
        f"{flag}={Path(path).name}" if equals and flag in flags else f"{flag}{equals}{path}"
        for flag, equals, path in split
    ]
    return [Path(word).name if before in flags else word for before, word in zip(["", *words], words, strict=False)]
