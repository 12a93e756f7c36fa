"""The launch by torchrun: which of the processes this is, and where they meet. Imports no torch."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass


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
    """Return the launch that the variables of torchrun tell of; None: this process was started alone."""
    count = int(variables.get("WORLD_SIZE", "1"))
    if count == 1:
        return None
    return Launch(
        rank=int(variables["RANK"]),
        count=count,
        local_rank=int(variables.get("LOCAL_RANK", variables["RANK"])),
        local_count=int(variables.get("LOCAL_WORLD_SIZE", count)),
        host=variables.get("MASTER_ADDR", "localhost"),
        port=int(variables.get("MASTER_PORT", "29500")),
        agent_store=variables.get("TORCHELASTIC_USE_AGENT_STORE") == "True",
    )
