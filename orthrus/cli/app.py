"""Puts the commands together: the program's own, and those that plugins register."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from importlib.metadata import version
from typing import Annotated

import typer

from orthrus.cli.bench import bench
from orthrus.cli.check import check
from orthrus.cli.doctor import doctor
from orthrus.cli.new import new
from orthrus.cli.plugins import plugins
from orthrus.cli.predict import predict
from orthrus.cli.recipes import recipes
from orthrus.cli.report import report
from orthrus.cli.run import run
from orthrus.cli.validate import validate
from orthrus.cli.verify import verify
from orthrus.errors import PluginError, reason
from orthrus.registry.catalog import Entry
from orthrus.registry.plugins import Plugins
from orthrus.terminal import echo

COMMANDS: dict[str, Callable[..., None]] = {
    "run": run,
    "verify": verify,
    "bench": bench,
    "predict": predict,
    "report": report,
    "doctor": doctor,
    "recipes": recipes,
    "plugins": plugins,
    "validate": validate,
    "check": check,
    "new": new,
}


def make_app() -> typer.Typer:
    """Return the program; a plugin's command that cannot be had is left out, as `orthrus plugins` shows."""
    session = Plugins.load(strict=False)
    app = typer.Typer(
        context_settings={"obj": session},
        add_completion=False,
        pretty_exceptions_enable=False,
        help="Lossless, faster decoding of language models. --debug, anywhere, shows tracebacks.",
    )
    app.callback()(_options)
    for name, command in COMMANDS.items():
        app.command(name)(command)
    for name in session.catalog.names("command"):
        try:
            _add(app, name, _command(session.get("command", name)))
        except PluginError as error:
            warnings.warn(str(error), stacklevel=2)
    return app


def _add(app: typer.Typer, name: str, command: Callable[..., None] | typer.Typer) -> None:
    if isinstance(command, typer.Typer):
        app.add_typer(command, name=name)
    else:
        app.command(name)(command)


def _command(entry: Entry) -> Callable[..., None] | typer.Typer:
    """Return a plugin's command, or group of commands.

    Raises PluginError if the name is the program's own or typer cannot make it.
    """
    what = f"command '{entry.name}' of plugin '{entry.origin}'"
    if entry.name in COMMANDS:
        raise PluginError(f"{what} is left out: the program has one of this name")
    command: Callable[..., None] | typer.Typer = entry.load_factory()
    try:
        alone = typer.Typer()
        _add(alone, entry.name, command)
        typer.main.get_command(alone)
    except Exception as error:  # typer reads the function's annotations, which are the plugin's
        raise PluginError(f"{what} is left out: {reason(error)}") from error
    return command


def _show_version(asked: bool) -> None:
    if asked:
        echo(f"orthrus {version('orthrus-decoding')}")
        raise typer.Exit


def _options(
    show_version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_show_version, help="Show the version.")
    ] = False,
) -> None:
    """Take the options of the program itself; those that do something have a callback of their own."""
