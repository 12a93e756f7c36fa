"""The state of a server, which its routes share."""

from __future__ import annotations

from dataclasses import dataclass

from orthrus_serve.admission import Admission
from orthrus_serve.decoding.service import DecodingService
from orthrus_serve.metrics import Metrics


@dataclass(frozen=True)
class ServerState:
    """The parts of a server.

    name: of the model, as clients write it. keys: any of which lets a client in; without, everyone is. most_bytes: of a
    request's body. created: when the server began, in seconds since 1970.
    """

    service: DecodingService
    admission: Admission
    metrics: Metrics
    name: str
    created: int
    keys: tuple[bytes, ...] = ()
    most_bytes: int = 4 * 2**20
    vllm_metrics: bool = False
