"""The cluster of Ray: an existing one, or one of this machine that lasts as long as the program.

May import: nothing else.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import ray

from orthrus import InputError
from orthrus.errors import reason

PATIENCE_SECONDS = 5.0  # for a cluster to take a connection
LOCAL = "local"  # Ray's word for an address that starts a cluster of this machine


@dataclass(frozen=True)
class Cluster:
    """A cluster that the program is connected to; own: it was started by the program, and ends with it."""

    own: bool

    @property
    def resources(self) -> Mapping[str, float]:
        """The resources of all machines, by Ray's names: CPU, GPU and others."""
        resources: dict[str, float] = ray.cluster_resources()
        return resources

    def gpus_a_worker(self, asked: float | None) -> float:
        """Return what was asked for; without, one GPU where the cluster has any."""
        return asked if asked is not None else min(1.0, self.resources.get("GPU", 0.0))

    def check(self, workers: int, cpus: float, gpus: float) -> str | None:
        """Return a sentence about workers that have to wait for machines to come; None: there is room for all.

        Raises InputError where none can come, as in a cluster of one machine.
        """
        asked = {"CPU": workers * cpus, "GPU": workers * gpus}
        short = [name for name, amount in asked.items() if amount > self.resources.get(name, 0.0)]
        if not short:
            return None
        have = " and ".join(f"{self.resources.get(name, 0.0):g} {name}" for name in short)
        want = " and ".join(f"{asked[name]:g} {name}" for name in short)
        if self.own:
            raise InputError(f"this machine has {have}, and {want} are asked for; give fewer, or less to each (--cpus)")
        return f"the cluster has {have}, and {want} are asked for: what has no room waits for machines to come"


@contextmanager
def connected(address: str | None) -> Iterator[Cluster]:
    """Lend the cluster at an address; None: that of RAY_ADDRESS or of this machine, else a new one of this machine.

    Raises InputError if there is none at the address. Processes of the cluster write to Ray's logs, not to this
    program's output.
    """
    address = address or os.environ.get("RAY_ADDRESS")
    own = address == LOCAL or not (_join(address) if address else _join_local())
    if own:
        ray.init(address=LOCAL, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    try:
        yield Cluster(own)
    finally:
        ray.shutdown()


def _join(address: str) -> bool:
    """Connect to the cluster at an address; raise InputError if there is none."""
    _reach(address)
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise InputError(f"there is no cluster of Ray at '{address}': {reason(error)}") from error
    return True


def _reach(address: str) -> None:
    """Raise InputError if nobody listens at an address of host and port, for which Ray would wait for minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon or not port.isdigit():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), PATIENCE_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise InputError(f"there is no cluster of Ray at '{address}': {reason(error)}") from error


def _join_local() -> bool:
    """Connect to the cluster that `ray start` has started on this machine; return whether there is one."""
    try:
        ray.init(address="auto", log_to_driver=False, logging_level=logging.ERROR)
    except ConnectionError:
        return False
    return True
