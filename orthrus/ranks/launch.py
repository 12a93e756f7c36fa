"""The launch by torchrun: which of the processes this is, and where they meet. Imports no torch."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from orthrus.errors import GroupError


@dataclass(frozen=True)
class Launch:
    """A process among those that were started together: this one.

    rank: its number, from 0. count: how many there are. local_rank, local_count: the same on this host. host, port:
    where they meet. agent_store: whether torchrun keeps the store there; else rank 0 does.
    """

    rank: int
    count: int
    local_rank: int
    local_count: int
    host: str
    port: int
    agent_store: bool

    @property
    def leads(self) -> bool:
        """Whether this is the rank that decides, and that speaks to the user."""
        return self.rank == 0


def launched(variables: Mapping[str, str] = os.environ) -> Launch | None:
    """Return the launch that the variables of torchrun tell of; None: this process was started alone.

    Raises GroupError if they are not those of torchrun.
    """
    count = _number(variables, "WORLD_SIZE", 1)
    if count == 1:
        return None
    rank = _number(variables, "RANK")
    return Launch(
        rank=rank,
        count=count,
        local_rank=_number(variables, "LOCAL_RANK", rank),
        local_count=_number(variables, "LOCAL_WORLD_SIZE", count),
        host=variables.get("MASTER_ADDR", "localhost"),
        port=_number(variables, "MASTER_PORT", 29500),
        agent_store=variables.get("TORCHELASTIC_USE_AGENT_STORE") == "True",
    )


def _number(variables: Mapping[str, str], name: str, default: int | None = None) -> int:
    """Return a variable's number; raise GroupError if it is none, or is missing and has no default."""
    text = variables.get(name)
    if text is None and default is not None:
        return default
    try:
        return int(text or "")
    except ValueError:
        said = "is missing" if text is None else f"is '{text}', which is no number"
        raise GroupError(
            f"the environment has WORLD_SIZE, as torchrun sets it, and {name} {said}; start processes by torchrun, or"
            " unset WORLD_SIZE"
        ) from None
