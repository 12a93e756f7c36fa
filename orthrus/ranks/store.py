"""The store of a launch: a few short values by name that all ranks see."""

from __future__ import annotations

from datetime import timedelta

from torch.distributed import PrefixStore, Store, TCPStore  # type: ignore[attr-defined]  # documented, not listed

from orthrus.errors import GroupError
from orthrus.ranks.launch import Launch

PATIENCE = timedelta(minutes=5)  # until the process that keeps it has begun, or has answered


def open_store(launch: Launch, *, keeps: bool = True) -> Store:
    """Return the store; rank 0 keeps it, where torchrun does not. keeps: whether this call may begin to.

    Raises GroupError if nobody keeps it. One connection serves one thread.
    """
    master = keeps and launch.leads and not launch.agent_store
    try:
        store = _connected(launch, master)
    except RuntimeError as error:
        raise GroupError(
            f"the processes of torchrun cannot meet at {launch.host}:{launch.port}; start them again, or set another"
            " port with torchrun --master-port"
        ) from error
    return PrefixStore("orthrus", store)


def _connected(launch: Launch, master: bool) -> TCPStore:
    return TCPStore(launch.host, launch.port, launch.count, master, PATIENCE, wait_for_workers=False, multi_tenant=True)
