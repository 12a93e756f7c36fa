"""The command `orthrus validate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from orthrus.cli.command_plugins import command_plugins
from orthrus.config.schema import load_config
from orthrus.errors import ConfigError, InputError, Problem
from orthrus.files import path_exists, short_path
from orthrus.registry.catalog import PARTS
from orthrus.registry.plugins import Plugins
from orthrus.terminal import echo

FRAGMENTS = "parts"  # files in a folder of this name are pieces of configs and need not name every part


def validate(
    program: typer.Context,
    paths: Annotated[list[Path], typer.Argument(help="Config files, or folders that are searched for them.")],
) -> None:
    """Check every key, name and option of configs without loading a model; all errors are shown, exit 2 if any."""
    files = find_configs(paths)
    session = command_plugins(program)
    problems = {file: check(file, session) for file in files}
    for file, file_problems in problems.items():
        echo(f"{file}: {_count(len(file_problems), 'error') if file_problems else 'ok'}")
    wrong = sum(bool(file_problems) for file_problems in problems.values())
    echo(f"{_count(len(files), 'file')} checked, {wrong} with errors")
    if wrong:  # a file that several use is checked with each; what is wrong in it is said once
        raise ConfigError(
            list(dict.fromkeys(problem for file_problems in problems.values() for problem in file_problems))
        )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def find_configs(paths: list[Path]) -> list[Path]:
    """Return the files themselves and every .yaml or .yml below the folders, sorted; raise InputError if none."""
    files: set[Path] = set()
    for path in paths:
        if not path_exists(path):
            raise InputError(f"there is no file or directory '{short_path(path)}'")
        below = [*path.rglob("*.yaml"), *path.rglob("*.yml")]
        files |= {path} if not path.is_dir() else {file for file in below if file.is_file()}
    if not files:
        raise InputError(f"there are no .yaml files in {', '.join(str(path) for path in paths)}")
    return sorted(files)


def check(file: Path, session: Plugins) -> list[Problem]:
    """Return all problems of one config file."""
    fragment = file.resolve().parent.name == FRAGMENTS
    try:
        load_config(file, [], session, missing_ok=PARTS if fragment else ())
    except ConfigError as error:
        return list(error.problems)
    return []
