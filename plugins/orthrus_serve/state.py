"""The state of a server, which its routes share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from orthrus_serve.admission import Admission
from orthrus_serve.decoding.service import DecodingService
from orthrus_serve.metrics import Metrics


@dataclass(frozen=True)
class ServerState:
    """The parts of a server, as far as they are of one model.

    name: of the model, as clients write it. keys: any of which lets a client in; without, everyone is. most_bytes: of a
    request's body. created: when the server began, in seconds since 1970. page: whether there is one. compared: the
    same of further models, by their names.
    """

    service: DecodingService
    admission: Admission
    metrics: Metrics
    name: str
    created: int
    keys: tuple[bytes, ...] = ()
    most_bytes: int = 4 * 2**20
    vllm_metrics: bool = False
    page: bool = True
    compared: Mapping[str, ServerState] = field(default_factory=dict)

    @property
    def models(self) -> Mapping[str, ServerState]:
        """All models, by their names, the first one first."""
        return {self.name: self, **self.compared}
