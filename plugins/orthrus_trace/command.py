"""The command `orthrus trace`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def trace(
    file: Annotated[Path, typer.Argument(help="A file that the watcher `trace` wrote.")],
    out: Annotated[Path | None, typer.Option("--out", help="The HTML file to write; FILE.html beside FILE.")] = None,
    png: Annotated[Path | None, typer.Option("--png", help="A PNG file to write, too.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=0, help="Of how many requests the text is shown.")] = 20,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that exist.")] = False,
) -> None:
    """Draw a trace: accepted drafts over the text, how often each position is accepted, and where the time goes."""
    from orthrus import echo
    from orthrus.files import write_whole
    from orthrus_trace.page import page
    from orthrus_trace.picture import check_matplotlib, draw_picture
    from orthrus_trace.trace_file import read_trace

    html = out or file.with_name(f"{file.name}.html")
    _check_written(file, {"--out": html, "--png": png}, overwrite)
    if png is not None:
        check_matplotlib()
    read = read_trace(file)
    if read.cut:
        echo(f"the last line of '{file}' is cut short, and left out", err=True)
    write_whole(html, page(read, file.name, limit))
    if png is not None:
        write_whole(png, lambda beside: draw_picture(read, file.name, beside))
    echo(f"{html}{f', {png}' if png else ''}: requests: {len(read.requests)}, steps: {len(read.seconds)}")


def _check_written(file: Path, written: dict[str, Path | None], overwrite: bool) -> None:
    """Raise InputError if a file that is to be written is the trace, a folder, another one's, or exists."""
    from orthrus import InputError

    known = {file.resolve(): "the trace itself"}
    for flag, path in written.items():
        if path is None:
            continue
        if path.resolve() in known:
            raise InputError(f"{flag}: '{path}' is {known[path.resolve()]}")
        if path.is_dir():
            raise InputError(f"{flag}: '{path}' is a directory")
        if path.exists() and not overwrite:
            raise InputError(f"{flag}: '{path}' exists; name another file, or add --overwrite")
        known[path.resolve()] = f"the file of {flag}"
