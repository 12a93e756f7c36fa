"""Commands that several processes of torchrun run together: the lead speaks, and all end alike."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

from orthrus.errors import GroupError
from orthrus.ranks.launch import Launch, launched

if TYPE_CHECKING:
    from orthrus.interfaces import Target
    from orthrus.ranks.ending import Ending

T = TypeVar("T")
COMMANDS = ("run", "verify", "bench", "serve")
OWN_SIGNALS = ("serve",)  # which ends by them in its own way


def shared_launch(arguments: Sequence[str]) -> Launch | None:
    """Return the launch whose processes run this command together; None: this one runs it alone."""
    return launched() if arguments and arguments[0] in COMMANDS else None


def begin_together(launch: Launch, arguments: Sequence[str]) -> Ending:
    """Return how the command ends all its processes; those that do not lead are silent from here on."""
    from orthrus.ranks.ending import Ending

    ending = Ending(launch)
    if not launch.leads:
        sys.stdout = sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  # until the process ends
    if arguments[0] not in OWN_SIGNALS:
        ending.end_on_sigterm()
    return ending


def read_by_lead(read: Callable[[], T]) -> T:
    """Return what the lead reads, which may be a pipe; one process alone reads itself."""
    if launched() is None:
        return read()
    from orthrus.ranks.group import join

    group = join()
    assert group is not None, "there are several processes"
    return group.made_by_lead(read)


def check_shared(target: Target) -> None:
    """Raise GroupError if several processes run a command on a target that each of them holds whole."""
    from orthrus.optional import SharedTarget

    launch = launched()
    if launch is not None and not (isinstance(target, SharedTarget) and target.group is not None):
        raise GroupError(
            f"torchrun started {launch.count} processes, and each would decode all prompts by itself; set"
            f" target.parallel={launch.count}, or start one process"
        )
