"""Progress bars on standard error, so that nothing longer than a second passes in silence."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from orthrus.terminal import console


@contextmanager
def bar(what: str, total: int, done: int = 0, shown: bool = True) -> Iterator[Callable[[Any], None]]:
    """Show a bar while something is done `total` times; yield the function to call after each, with anything.

    done: how often it was done before. shown: False for a process that keeps silent; without a terminal all do.
    """
    columns = [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()]
    terminal = console(err=True)
    hidden = not shown or not terminal.is_terminal
    with Progress(*columns, TimeRemainingColumn(), console=terminal, transient=True, disable=hidden) as progress:
        task = progress.add_task(what, total=total, completed=done)
        yield lambda _: progress.advance(task)
