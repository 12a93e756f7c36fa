"""Metrics in Prometheus's form: what is decoded, how soon, and how much of the drafts is accepted."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from orthrus_serve.decoding.messages import Ending, Statistics
from orthrus_serve.durations import DurationsFamily

PREFIX, ALIAS = "orthrus_", "vllm:"
SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 60, 120)
LABEL = "model_name"


class MetricFamilies:
    """The metrics of a server, each with a label for the model that its values are of."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.prompt = self._counter("prompt_tokens", "tokens of prompts that were taken")
        self.generated = self._counter("generation_tokens", "tokens that were committed")
        self.drafts = self._counter("spec_decode_num_drafts", "drafts that were scored")
        self.drafted = self._counter("spec_decode_num_draft_tokens", "tokens that were drafted")
        self.accepted = self._counter("spec_decode_num_accepted_tokens", "drafted tokens that were accepted")
        self.accepted_at = self._counter(
            "spec_decode_num_accepted_tokens_per_pos",
            "drafted tokens that were accepted, by their place in the draft",
            "position",
        )
        self.ended = self._counter("request_success", "answers that ended", "finished_reason")
        self.running = self._gauge("num_requests_running", "answers that have a row")
        self.waiting = self._gauge("num_requests_waiting", "answers that wait for a row")
        self.cache = self._gauge("kv_cache_usage_perc", "tokens of rows over those that all rows may have, from 0 to 1")
        self.bytes = self._gauge("kv_cache_bytes", "bytes that keys and values occupy")
        self.first = self._seconds("time_to_first_token_seconds", "from a request's arrival to its first token")
        self.gap = self._seconds(
            "inter_token_latency_seconds", "from one piece of an answer to the next, of 1 or more tokens"
        )
        self.token = self._seconds(
            "request_time_per_output_token_seconds", "an answer's mean time a token after the first"
        )
        self.whole = self._seconds("e2e_request_latency_seconds", "from a request's arrival to its end")
        self.queue = self._seconds("request_queue_time_seconds", "from a request's arrival to its prompt's pass")

    def page(self, *, vllm: bool) -> bytes:
        """Return all metrics as text; vllm: also under the names that vLLM has for them."""
        page = generate_latest(self.registry)
        if not vllm:
            return page
        aliases = CollectorRegistry()
        aliases.register(_Aliases(self.registry))
        return page + generate_latest(aliases)

    def _counter(self, name: str, help: str, *labels: str) -> Counter:
        return Counter(PREFIX + name, help, [LABEL, *labels], registry=self.registry)

    def _gauge(self, name: str, help: str) -> Gauge:
        return Gauge(PREFIX + name, help, [LABEL], registry=self.registry)

    def _seconds(self, name: str, help: str) -> DurationsFamily:
        return DurationsFamily(PREFIX + name, help, LABEL, SECONDS, self.registry)


class Metrics:
    """The metrics of one model. slots: tokens that its rows may have at most, together; None: any number."""

    def __init__(self, model: str, slots: int | None, families: MetricFamilies | None = None) -> None:
        """Begin with nothing counted; families: what the models of one server share."""
        self._families = shared = families or MetricFamilies()
        self._model, self._slots = model, slots
        self._prompt, self._generated = shared.prompt.labels(model), shared.generated.labels(model)
        self._drafts, self._drafted = shared.drafts.labels(model), shared.drafted.labels(model)
        self._accepted = shared.accepted.labels(model)
        self._accepted_at: list[Counter] = []  # by position
        self._ended: dict[str, Counter] = {}  # by reason
        self._running, self._waiting = shared.running.labels(model), shared.waiting.labels(model)
        self._cache, self._bytes = shared.cache.labels(model), shared.bytes.labels(model)
        self._first, self._gap = shared.first.labels(model), shared.gap.labels(model)
        self._token, self._whole = shared.token.labels(model), shared.whole.labels(model)
        self._queue = shared.queue.labels(model)

    def note(self, statistics: Statistics) -> None:
        """Add what was counted where decoding happens."""
        self._prompt.inc(statistics.prompt_tokens)
        self._generated.inc(statistics.generated_tokens)
        self._drafts.inc(statistics.drafts)
        self._drafted.inc(statistics.drafted_tokens)
        self._accepted.inc(statistics.accepted_tokens)
        for position in range(len(self._accepted_at), len(statistics.accepted_at)):
            self._accepted_at.append(self._families.accepted_at.labels(self._model, position))
        for counter, count in zip(self._accepted_at, statistics.accepted_at, strict=False):
            counter.inc(count)
        self._running.set(statistics.running)
        self._waiting.set(statistics.waiting)
        self._cache.set(statistics.cache_tokens / self._slots if self._slots else 0)
        self._bytes.set(statistics.cache_bytes)
        for gap, count in statistics.gaps:
            self._gap.observe(gap, count)

    def note_end(self, ending: Ending, tokens: int) -> None:
        """Add the times of an answer of so many tokens that has ended."""
        if ending.reason not in self._ended:
            self._ended[ending.reason] = self._families.ended.labels(self._model, ending.reason)
        self._ended[ending.reason].inc()
        self._queue.observe(ending.queue_seconds)
        self._whole.observe(ending.seconds)
        if ending.first_token_seconds is not None:
            self._first.observe(ending.first_token_seconds)
            if tokens > 1:
                self._token.observe((ending.seconds - ending.first_token_seconds) / (tokens - 1))

    async def page(self, *, vllm: bool) -> bytes:
        """Return the metrics of all models of the server as text; vllm: also under vLLM's names."""
        return self._families.page(vllm=vllm)


class _Aliases(Collector):
    """The metrics of a registry under the names that vLLM has for them."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def collect(self) -> Iterable[Metric]:
        """Yield each metric with the other prefix."""
        for metric in self._registry.collect():
            metric.name = metric.name.replace(PREFIX, ALIAS, 1)
            metric.samples = [sample._replace(name=sample.name.replace(PREFIX, ALIAS, 1)) for sample in metric.samples]
            yield metric
