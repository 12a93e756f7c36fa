"""The command `orthrus fetch`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import typer


def fetch(
    source: Annotated[str, typer.Argument(help="A directory, .gguf file, hub id or package:MODULE/FILE.")],
) -> None:
    """Make a model ready for use: download or convert it if needed, and print where it is."""
    from orthrus import Location, Parts, Source
    from orthrus_transformers import sources
    from orthrus_transformers.loading import local_directory

    parts = Parts(notify=lambda message: typer.echo(message, err=True))
    kinds: dict[str, Callable[[Location, Parts], Source]] = {
        "path": sources.path_source,
        "package": sources.package_source,
        "hub": sources.hub_source,
    }
    scheme, colon, location = source.partition(":")
    factory = kinds[scheme] if colon and scheme in kinds else sources.default_source
    found = factory(Location(location if factory is not sources.default_source else source), parts)
    typer.echo(local_directory(found.fetch(), parts))
