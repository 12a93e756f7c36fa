"""Builds the subjects of a point. Those whose configs agree in target, attention and cache share one target."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from orthrus.bench.measurement import Clock, Measurement, run_baseline, run_decoder
from orthrus.bench.memory_ledger import Ledger, peak, reset_peak
from orthrus.bench.plan import SubjectPlan
from orthrus.bench.profiler import Profile, profile
from orthrus.build import TargetPool, build, build_baseline, build_target
from orthrus.config.schema import Config
from orthrus.errors import BuildError
from orthrus.interfaces import Target
from orthrus.machine import synchronize
from orthrus.ranks.together import SharedTarget as SharedModel
from orthrus.ranks.together import check_shared
from orthrus.registry.plugins import Plugins
from orthrus.sampling.resolve import resolve_stop

Prompts = Sequence[Sequence[int]]


@dataclass(frozen=True, eq=False)
class SharedTarget:
    """A shared target, and the names under which its memory is accounted."""

    target: Target
    weights: str
    passes: str  # what runs on it leave behind and share: buffers of the cache, captured passes


@dataclass(frozen=True, eq=False)
class Subject:
    """A built subject. owners: whose memory is its own; the first is charged with what its runs leave."""

    plan: SubjectPlan
    config: Config
    shared: SharedTarget
    answer: Callable[[Prompts, int], Measurement]
    profile: Callable[[Prompts, int], Profile | None]
    owners: tuple[str, ...]


class SubjectPool:
    """Build subjects and run them, and keep what the next point needs again.

    whole_peak: the peak of memory is that since the first run, captures and growing buffers included, not of each run.
    """

    def __init__(
        self,
        plugins: Plugins,
        notify: Callable[[str], None] | None = None,
        clock: Clock = time.perf_counter,
        whole_peak: bool = False,
    ) -> None:
        self._plugins = plugins
        self._notify = notify
        self._clock = clock
        self._whole_peak = whole_peak
        self._has_run = False
        self._ledger = Ledger()
        self._numbers = itertools.count()
        self._targets = TargetPool(self._make_target)
        self._subjects: dict[str, Subject] = {}

    def keep_only(self, configs: Sequence[Config]) -> None:
        """Forget the targets, and what was built on them, that none of the configs asks for."""
        dropped = self._targets.keep_only(configs)
        self._subjects = {label: subject for label, subject in self._subjects.items() if subject.shared not in dropped}
        self._ledger.forget([name for target in dropped for name in (target.weights, target.passes)])

    def subject(self, plan: SubjectPlan, config: Config) -> Subject:
        """Return the subject of a plan, built anew only if its config is another than before."""
        if plan.label not in self._subjects or self._subjects[plan.label].config != config:
            shared = self._targets.of(config)
            with self._ledger.charge(plan.label):
                self._subjects.pop(plan.label, None)  # it goes before the next one comes
                self._subjects[plan.label] = self._build(plan, config, shared)
        return self._subjects[plan.label]

    @property
    def built(self) -> Mapping[str, Subject]:
        """The subjects that are built now, by label."""
        return self._subjects

    @property
    def target_count(self) -> int:
        """How many targets are held now."""
        return len(self._targets)

    def bytes_of_others(self, subject: Subject) -> int:
        """Return the bytes on the devices that are not accounted to the subject nor to its target."""
        return self._ledger.others(*subject.owners)

    def run(self, subject: Subject, prompts: Prompts, batch: int) -> Measurement:
        """Return what one run takes, with the most memory that was the subject's meanwhile."""
        device = subject.shared.target.device
        synchronize(device)
        if not (self._whole_peak and self._has_run):
            reset_peak()
        self._has_run = True
        with self._ledger.charge(subject.owners[0]):
            measurement = subject.answer(prompts, batch)
            most = peak() - self.bytes_of_others(subject)
        return replace(measurement, peak_memory_bytes=most if device.type == "cuda" else None)

    def profile(self, subject: Subject, prompts: Prompts, batch: int) -> Profile | None:
        """Return where a cycle's time goes; None for a baseline, whose cycles are its own."""
        with self._ledger.charge(subject.owners[0]):
            return subject.profile(prompts, batch)

    def _build(self, plan: SubjectPlan, config: Config, shared: SharedTarget) -> Subject:
        target = shared.target
        if plan.baseline is None:
            decoder = build(config, self._plugins, {"target": target}, self._notify)
            answer = partial(run_decoder, decoder, clock=self._clock)
            where = partial(profile, decoder, clock=self._clock)
            return Subject(plan, config, shared, answer, where, (shared.passes, shared.weights, plan.label))
        if isinstance(target, SharedModel) and target.group is not None:
            raise BuildError(f"baseline '{plan.label}' runs in one process; leave it out with target.parallel")
        baseline, stop = build_baseline(plan.baseline, target, self._notify), resolve_stop(config.stop, target)
        answer = partial(run_baseline, baseline, stop, clock=self._clock, device=target.device)
        return Subject(plan, config, shared, answer, _no_profile, (plan.label, shared.weights))

    def _make_target(self, config: Config) -> SharedTarget:
        number = next(self._numbers)
        weights, passes = f"weights of target {number}", f"passes of target {number}"
        with self._ledger.charge(weights):
            target = build_target(config, self._plugins, self._notify)
            check_shared(target)
        return SharedTarget(target, weights, passes)


def _no_profile(prompts: Prompts, batch: int) -> None:
    """Tell nothing: a baseline's cycles are its own."""
