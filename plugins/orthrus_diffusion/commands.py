"""The command `orthrus convert`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def convert(
    source: Annotated[str, typer.Argument(help="A released checkpoint or a view: a directory, or a hub id.")],
    dest: Annotated[Path, typer.Argument(help="The new directory.")],
    base: Annotated[
        str | None,
        typer.Option("--base", help="Write a released checkpoint: this model, with the view beside its attention."),
    ] = None,
    storage: Annotated[
        str | None, typer.Option("--storage", help="How a view is stored: float (default) or int8.")
    ] = None,
) -> None:
    """Convert a released Orthrus-Qwen3 checkpoint to a view, or with --base a view and its model to a checkpoint."""
    from orthrus import InputError, Parts, echo
    from orthrus_diffusion.view_files.config import parse_config, read_config
    from orthrus_diffusion.view_files.convert import to_released, to_view
    from orthrus_diffusion.view_files.shipped import fetched

    if base is not None and storage is not None:
        raise InputError("--storage says how a view is stored; with --base a whole checkpoint is written")
    parts = Parts(notify=lambda message: echo(message, err=True))
    if base is None:
        to_view(fetched(source, parts), dest, storage or "float", source)
    else:
        view = fetched(source, parts)
        to_released(view, fetched(base, parts), dest, base)
        if parse_config(read_config(view), view).successor_rank:
            echo("the view's successor head is left out: the released format has no place for one", err=True)
    echo(dest)
