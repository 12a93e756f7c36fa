"""The command `orthrus fetch`."""

from __future__ import annotations

from typing import Annotated

import typer


def fetch(
    source: Annotated[str, typer.Argument(help="What `target.source` takes: a path, hub id, or package:MODULE/FILE.")],
) -> None:
    """Make a model ready for use: download or convert it if needed, and print where it is."""
    from orthrus import Parts, Plugins, echo, find_source
    from orthrus_transformers.loading.model import local_directory

    parts = Parts(notify=lambda message: echo(message, err=True))
    echo(local_directory(find_source(source, Plugins.load(), parts).fetch(), parts))
