"""Settings of a deployment on Ray Serve, as the command line or a Serve config file gives them; imports no Ray."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orthrus import InputError
from orthrus.errors import shown

MEBIBYTE = 2**20
LEAST = {  # what each number of a deployment must be at least
    "replicas": 1,
    "most_replicas": 1,
    "ingresses": 1,
    "batch": 1,
    "queue": 0,
    "slack": 0,
    "cpus": 0,
    "gpus": 0,
    "target_requests": 0.01,
    "upscale_seconds": 0,
    "downscale_seconds": 0,
    "health_seconds": 0.1,
    "grace_seconds": 0,
    "most_bytes": 1,
}
FRACTIONS = frozenset(name for name in LEAST if name.endswith("_seconds")) | {"cpus", "gpus", "target_requests"}
MAY_BE_NONE = frozenset({"most_replicas", "slack", "target_requests"})


@dataclass(frozen=True)
class ReplicaSettings:
    """What an engine replica decodes with.

    values: the whole config. folder: what relative paths in it are relative to, on machines that have it. slots: of a
    batch. model: the name that clients write.
    """

    values: Mapping[str, Any]
    folder: str
    batch: int
    model: str


@dataclass(frozen=True)
class IngressSettings:
    """What an ingress lets in. most: answers that may be under way or wait. most_bytes: of a request's body.

    page: whether there is one to chat.
    """

    model: str
    most: int
    keys: tuple[bytes, ...] = ()
    most_bytes: int = 4 * MEBIBYTE
    vllm_metrics: bool = False
    page: bool = True


@dataclass(frozen=True)
class DeploymentSettings:
    """How many replicas decode, with which resources, and when there are more or fewer of them.

    config: the values of a config. most_replicas: to which their number grows; None: it stays. batch, queue: answers
    decoded, and waiting, a replica. slack: requests by which a replica may be busier than the least busy before a
    conversation leaves it; None: a quarter of the batch. cpus, gpus: that a replica reserves. target_requests: under
    way a replica, which the number of replicas is to keep; None: the batch. Seconds: `health_seconds` between two
    checks, `grace_seconds` for requests under way when a replica ends, the others as Ray Serve has them.
    """

    config: Mapping[str, Any]
    model: str
    replicas: int = 1
    most_replicas: int | None = None
    ingresses: int = 1
    batch: int = 64
    queue: int = 256
    slack: int | None = None
    cpus: float = 1.0
    gpus: float = 0.0
    target_requests: float | None = None
    upscale_seconds: float = 30.0
    downscale_seconds: float = 600.0
    health_seconds: float = 10.0
    grace_seconds: float = 60.0
    keys: tuple[bytes, ...] = ()
    most_bytes: int = 4 * MEBIBYTE
    vllm_metrics: bool = False
    page: bool = True
    folder: str = field(default_factory=lambda: str(Path.cwd()))

    def __post_init__(self) -> None:
        """Raise InputError for numbers that make no deployment."""
        for name, bound in LEAST.items():
            _check_number(name, getattr(self, name), bound)
        for name, kind, what in (
            ("model", str, "text"),
            ("vllm_metrics", bool, "true or false"),
            ("page", bool, "true or false"),
        ):
            if not isinstance(getattr(self, name), kind):
                raise InputError(f"{name} must be {what}, not {shown(getattr(self, name))}")
        if self.most_replicas is not None and self.most_replicas < self.replicas:
            raise InputError(
                f"there cannot be at most {self.most_replicas} replicas and at least {self.replicas}: give"
                " max-replicas that is not below replicas"
            )

    @property
    def most_slack(self) -> int:
        """The requests by which a replica may be busier than the least busy and keep its conversations."""
        return max(1, self.batch // 4) if self.slack is None else self.slack

    @property
    def taken_a_replica(self) -> int:
        """The requests that one replica takes, those that it decodes and those that wait."""
        return self.batch + self.queue

    @property
    def replica(self) -> ReplicaSettings:
        """The settings of each engine replica."""
        return ReplicaSettings(self.config, self.folder, self.batch, self.model)

    @property
    def ingress(self) -> IngressSettings:
        """The settings of each ingress; together they let in what all replicas take."""
        most = self.taken_a_replica * (self.most_replicas or self.replicas)
        share = -(-most // self.ingresses)
        return IngressSettings(self.model, share, self.keys, self.most_bytes, self.vllm_metrics, self.page)


def _check_number(name: str, value: object, least: float) -> None:
    """Raise InputError for what is no number of a deployment, or too small."""
    if value is None and name in MAY_BE_NONE:
        return
    kinds = (int, float) if name in FRACTIONS else (int,)
    if isinstance(value, bool) or not isinstance(value, kinds):
        raise InputError(f"{name} must be {'a number' if name in FRACTIONS else 'an integer'}, not {shown(value)}")
    if not value >= least:
        raise InputError(f"{name} must be at least {least}, not {value}")
