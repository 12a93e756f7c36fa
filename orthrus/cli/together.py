"""Commands that several processes of torchrun run together: the lead speaks, and all end alike."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from orthrus.errors import GroupError
from orthrus.ranks.launch import Launch, launched

if TYPE_CHECKING:
    from orthrus.ranks.ending import Ending

T = TypeVar("T")
COMMANDS = ("run", "verify", "bench", "serve")
ALONE = (
    "predict",
    "report",
    "doctor",
    "recipes",
    "plugins",
    "validate",
    "check",
    "new",
    "convert",
    "fetch",
    "trace",
    "ray",
)
OWN_SIGNALS = ("serve",)  # which ends by them in its own way


def shared_launch(arguments: Sequence[str]) -> Launch | None:
    """Return the launch whose processes run this command together; None: this one runs it alone."""
    return launched() if arguments and arguments[0] in (*COMMANDS, *ALONE) else None


def begin_together(launch: Launch, arguments: Sequence[str]) -> Ending:
    """Return how the command ends all its processes; those that do not lead are silent from here on."""
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # or it warns of each connection that ends with a process
    from orthrus.ranks.ending import Ending

    ending = Ending(launch)
    if not launch.leads:
        sys.stdout = sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115  # until the end
    if arguments[0] not in OWN_SIGNALS:
        ending.end_on_sigterm()
    return ending


def check_together(arguments: Sequence[str]) -> None:
    """Raise GroupError for a command that one process runs."""
    if arguments[0] in ALONE:
        raise GroupError(
            f"orthrus {arguments[0]} runs in one process, and torchrun started several; start it without torchrun"
        )


def check_alone(what: str) -> None:
    """Raise GroupError if several processes run a command, for what only one does."""
    if launched() is not None:
        raise GroupError(f"{what} starts processes of its own, and torchrun started several; leave it out")


def writes() -> bool:
    """Return whether this process writes the files of a command: of several that run it the one that leads."""
    launch = launched()
    return launch is None or launch.leads


def read_by_lead(read: Callable[[], T]) -> T:
    """Return what the lead reads, which may be a pipe; one process alone reads itself."""
    if launched() is None:
        return read()
    from orthrus.ranks.group import join

    group = join()
    assert group is not None, "there are several processes"
    return group.made_by_lead(read)
