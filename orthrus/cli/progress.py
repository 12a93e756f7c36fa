"""Progress on standard error, so that nothing longer than a second passes in silence."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from orthrus.decoder import Decoder


def error_console() -> Console:
    """Return a console on standard error."""
    return Console(stderr=True, highlight=False)


def load_decoder(config: Path, overrides: Sequence[str] | None) -> Decoder:
    """Return the decoder of a run file, telling what is being waited for."""
    console = error_console()
    with console.status("loading"):
        from orthrus.build import load

        notify = partial(console.print, markup=False, soft_wrap=True)
        return load(config, dotted=overrides or [], notify=notify)


@contextmanager
def bar(what: str, total: int) -> Iterator[Callable[[Any], None]]:
    """Show a bar while something is done `total` times; yield the function to call after each."""
    columns = [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()]
    console = error_console()
    hidden = not console.is_terminal
    with Progress(*columns, TimeRemainingColumn(), console=console, transient=True, disable=hidden) as progress:
        task = progress.add_task(what, total=total)
        yield lambda _: progress.advance(task)
