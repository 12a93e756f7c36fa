"""Runs the sweep. Subjects take turns within a round, so that clock and temperature drift affects all alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence

import torch

from orthrus.bench.bandwidth import copy_bandwidth
from orthrus.bench.collector import PointCollector
from orthrus.bench.measurement import Clock
from orthrus.bench.memory_ledger import frozen
from orthrus.bench.plan import Plan, Point, SubjectPlan
from orthrus.bench.results import Run
from orthrus.bench.subjects import Prompts, Subject, SubjectPool
from orthrus.bench.workload import Workload
from orthrus.registry.plugins import Plugins


class Bench:
    """Carry out a plan. copy_bandwidths: what each device met so far can copy, in bytes/s; None: it had no room.

    subjects: the pool of those that are measured now. whole_peak: see SubjectPool.
    """

    def __init__(
        self,
        plan: Plan,
        prompts: Workload,
        plugins: Plugins,
        *,
        notify: Callable[[str], None] | None = None,
        advance: Callable[[object], None] = lambda _: None,
        clock: Clock = time.perf_counter,
        bandwidth: Callable[[torch.device], float | None] = copy_bandwidth,
        whole_peak: bool = False,
    ) -> None:
        self.copy_bandwidths: dict[torch.device, float | None] = {}
        self.plan = plan
        self._prompts = prompts
        self._plugins = plugins
        self.subjects = SubjectPool(plugins, notify, clock, whole_peak)
        self._advance = advance
        self._bandwidth = bandwidth

    def runs(self) -> Iterator[list[Run]]:
        """Yield the runs of each point. Ctrl-C yields what the point's finished rounds gave, and is raised again."""
        for point in self.plan.points:
            collector = PointCollector(self.plan, point)
            try:
                self.measure(point, collector)
            except KeyboardInterrupt:
                yield collector.runs()
                raise
            yield collector.runs()

    def measure(self, point: Point, collector: PointCollector) -> None:
        """Add to the collector what all subjects give at a point."""
        ready = self._prepare(point, collector)
        with frozen():
            for number in range(self.plan.warm_up + self.plan.rounds):
                self._round(number, ready, point.batch, collector)
            for subject_plan in self.plan.subjects if self.plan.phases else ():
                with collector.noting(subject_plan.label):
                    if collector.fine(subject_plan.label):
                        subject, prompts = ready[subject_plan.label]
                        profile = self.subjects.profile(subject, prompts, point.batch)
                        bandwidth = self.copy_bandwidths[subject.shared.target.device]
                        collector.add_profile(subject_plan.label, profile, bandwidth)
                self._advance(subject_plan)

    def _round(
        self, number: int, ready: Mapping[str, tuple[Subject, Prompts]], batch: int, collector: PointCollector
    ) -> None:
        for subject in self._order(number):
            with collector.noting(subject.label):
                if collector.fine(subject.label):
                    measurement = self.subjects.run(*ready[subject.label], batch)
                    if number >= self.plan.warm_up:
                        collector.add(subject.label, measurement)
            self._advance(subject)

    def _prepare(self, point: Point, collector: PointCollector) -> dict[str, tuple[Subject, Prompts]]:
        """Return every subject that could be built, with the tokens of its prompts."""
        configs = {subject.label: self.plan.config(subject, point, self._plugins) for subject in self.plan.subjects}
        self.subjects.keep_only(list(configs.values()))
        ready: dict[str, tuple[Subject, Prompts]] = {}
        for subject_plan in self.plan.subjects:
            with collector.noting(subject_plan.label):
                subject = self.subjects.subject(subject_plan, configs[subject_plan.label])
                target = subject.shared.target
                ready[subject_plan.label] = subject, self._prompts.encoded(target, point)
                if target.device not in self.copy_bandwidths:
                    self.copy_bandwidths[target.device] = self._bandwidth(target.device)
        return ready

    def _order(self, number: int) -> Sequence[SubjectPlan]:
        """Return the subjects as a round runs them: each begins with the next one, so that none is always first."""
        subjects = self.plan.subjects
        first = 0 if self.plan.in_order else number % len(subjects)
        return [*subjects[first:], *subjects[:first]]
