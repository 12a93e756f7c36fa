"""The state of a server, which its routes share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from orthrus_serve.admission import Admission
from orthrus_serve.decoding.messages import Ending
from orthrus_serve.decoding.service import DecodingService
from orthrus_serve.request_ids import request_ids


class ServerMetrics(Protocol):
    """The metrics of a server, wherever they are counted."""

    def note_end(self, ending: Ending, tokens: int) -> None:
        """Add the times of an answer of so many tokens that has ended."""

    async def page(self, *, vllm: bool) -> bytes:
        """Return all metrics in Prometheus's form; vllm: also under the names that vLLM has for them."""


@dataclass(frozen=True)
class ServerState:
    """The parts of a server, as far as they are of one model.

    name: of the model, as clients write it. keys: any of which lets a client in; without, everyone is. most_bytes: of a
    request's body. created: when the server began, in seconds since 1970. page: whether there is one. compared: the
    same of further models, by their names. ids: of requests.
    """

    service: DecodingService
    admission: Admission
    metrics: ServerMetrics
    name: str
    created: int
    keys: tuple[bytes, ...] = ()
    most_bytes: int = 4 * 2**20
    vllm_metrics: bool = False
    page: bool = True
    compared: Mapping[str, ServerState] = field(default_factory=dict)
    ids: Iterator[str] = field(default_factory=request_ids)

    @property
    def models(self) -> Mapping[str, ServerState]:
        """All models, by their names, the first one first."""
        return {self.name: self, **self.compared}
