"""The metrics of all replicas as one page: each has its own, and a label says which."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector
from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle

from orthrus_serve.decoding.messages import Ending

LABEL = "replica"
PATIENCE_SECONDS = 5.0  # for the replicas' pages


class ReplicaMetrics:
    """The metrics of a deployment's replicas, which they count themselves and are asked for."""

    def __init__(self, engine: DeploymentHandle) -> None:
        self._engine = engine

    def note_end(self, ending: Ending, tokens: int) -> None:
        """Do nothing: the replica has measured the answer."""

    async def page(self, *, vllm: bool) -> bytes:
        """Return the metrics of all replicas that answer, in Prometheus's form."""
        asked = self._engine.broadcast("metrics", vllm)
        try:
            answers = await asked.results_async(timeout_s=PATIENCE_SECONDS, return_exceptions=True)
        except (RayError, RayServeException, TimeoutError):
            answers = []
        return merged(dict(answer for answer in answers if isinstance(answer, tuple)))


def merged(pages: Mapping[str, bytes]) -> bytes:
    """Return pages of replicas, by name, as one: every sample has the label of its replica."""
    registry = CollectorRegistry()
    registry.register(_Merged(pages))
    return generate_latest(registry)


class _Merged(Collector):
    """The metrics of several pages, those of one name together."""

    def __init__(self, pages: Mapping[str, bytes]) -> None:
        self._pages = pages

    def collect(self) -> Iterable[Metric]:
        """Yield each metric once, with the samples of all pages."""
        together: dict[str, Metric] = {}
        for replica, page in self._pages.items():
            for metric in text_string_to_metric_families(page.decode()):
                known = together.setdefault(metric.name, Metric(metric.name, metric.documentation, metric.type))
                known.samples += [
                    sample._replace(labels={**sample.labels, LABEL: replica}) for sample in metric.samples
                ]
        yield from together.values()
