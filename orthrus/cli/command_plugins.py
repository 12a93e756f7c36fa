"""The plugins of a command: those that the program has loaded to know its commands, once."""

from __future__ import annotations

import typer

from orthrus.registry.plugins import Plugins, strict_by_default


def command_plugins(context: typer.Context) -> Plugins:
    """Return the plugins; raise PluginError if any did not load and the environment asks for strictness."""
    plugins = context.obj
    assert isinstance(plugins, Plugins), "the program hands its plugins to commands"
    if strict_by_default():
        plugins.complain(strict=True)
    return plugins
