"""Puts the commands together: the program's own, and those that plugins register."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version
from typing import Annotated

import typer

from orthrus.cli.plugins import plugins
from orthrus.cli.run import run
from orthrus.cli.validate import validate
from orthrus.cli.verify import verify
from orthrus.errors import PluginError
from orthrus.plugins import Plugins

COMMANDS: dict[str, Callable[..., None]] = {"run": run, "verify": verify, "plugins": plugins, "validate": validate}


def make_app() -> typer.Typer:
    """Return the program; a plugin's command that cannot be had is left out, as `orthrus plugins` shows."""
    app = typer.Typer(
        add_completion=False,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        help="Lossless, faster decoding of language models. --debug, anywhere, shows tracebacks.",
    )
    app.callback()(_options)
    for name, command in COMMANDS.items():
        app.command(name)(command)
    session = Plugins.load(strict=False)
    for entry in session.catalog:
        if entry.kind == "command" and entry.name not in COMMANDS:
            try:
                app.command(entry.name)(session.get("command", entry.name).load_factory())
            except PluginError as error:
                typer.echo(f"orthrus: warning: {error}", err=True)
    return app


def _options(
    show_version: Annotated[bool, typer.Option("--version", is_eager=True, help="Show the version.")] = False,
) -> None:
    if show_version:
        typer.echo(f"orthrus {version('orthrus-decoding')}")
        raise typer.Exit
