"""Durations as a histogram in Prometheus's form, of which many that are equal are counted at once.

The client library counts one at a time. Every row of a step adds one: with many rows that takes longer than the rest.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import accumulate

from prometheus_client.core import HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector, CollectorRegistry
from prometheus_client.utils import floatToGoString


class Durations:
    """Durations of one model, counted by the bounds that they are not above."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)  # the last one is of those above all bounds
        self._sum = 0.0
        self._created = time.time()

    def observe(self, seconds: float, count: int = 1) -> None:
        """Count a duration, so many times."""
        self._counts[bisect_left(self._bounds, seconds)] += count
        self._sum += seconds * count

    def add_to(self, family: HistogramMetricFamily, labels: dict[str, str]) -> None:
        """Add the counts to a metric, each with those of smaller bounds, and when counting began."""
        names = [*map(floatToGoString, self._bounds), "+Inf"]
        family.add_metric([*labels.values()], list(zip(names, accumulate(self._counts), strict=True)), self._sum)
        family.add_sample(f"{family.name}_created", labels, self._created)


class DurationsFamily(Collector):
    """The durations of all models of a server under one name."""

    def __init__(self, name: str, help: str, label: str, bounds: Sequence[float], registry: CollectorRegistry) -> None:
        """Show them where a registry's metrics are shown. label: its name, whose values are those of models."""
        self._name, self._help, self._label, self._bounds = name, help, label, bounds
        self._durations: dict[str, Durations] = {}
        registry.register(self)

    def labels(self, model: str) -> Durations:
        """Return the durations of a model."""
        return self._durations.setdefault(model, Durations(self._bounds))

    def describe(self) -> Iterable[Metric]:
        """Yield the metric without values, by which a registry knows its names."""
        yield HistogramMetricFamily(self._name, self._help, labels=[self._label])

    def collect(self) -> Iterable[Metric]:
        """Yield the metric."""
        family = HistogramMetricFamily(self._name, self._help, labels=[self._label])
        for model, durations in self._durations.items():
            durations.add_to(family, {self._label: model})
        yield family
