"""What tests of the benchmark share: clocks that they turn themselves, and baselines that say when they ran."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from orthrus import BaselineAnswer, Stop, hookimpl
from orthrus.bench.arguments import read_sweep
from orthrus.bench.plan import Plan, choose_reference, plan_points, plan_subjects
from orthrus.bench.results import Run
from orthrus.bench.runner import Bench
from orthrus.bench.workload import Workload
from orthrus.config.compose import read_overrides
from orthrus.registry.plugins import Plugins
from orthrus.testing import Letters
from support.building import table_target

CONFIG = """
target: {name: counted}
cache: {name: dynamic}
drafter: {name: none}
verifier: {name: consensus}
stop: {max_new_tokens: 6}
"""


class Clock:
    """A clock that stands still until it is told how much time has passed, or ticks by itself at every look."""

    def __init__(self, ticks: Iterator[float] | None = None) -> None:
        self.time = 0.0
        self.looks: list[float] = []
        self._ticks = ticks

    def __call__(self) -> float:
        if self._ticks is not None:
            self.time += next(self._ticks)
        self.looks.append(self.time)
        return self.time


class Scripted:
    """A baseline that tells a log when it runs, and does what a function of the number of the call says."""

    def __init__(self, name: str, log: list[str], act: Callable[[int], int]) -> None:
        self._name, self._log, self._act = name, log, act
        self.batches: list[int] = []
        self.stops: list[Stop] = []

    def answer(self, prompts: Sequence[Sequence[int]], stop: Stop) -> BaselineAnswer:
        self._log.append(self._name)
        self.batches.append(len(prompts))
        self.stops.append(stop)
        length = self._act(len(self.batches))
        return BaselineAnswer(tuple((1,) * length for _ in prompts))


class BenchPlugin:
    """Supply a table target whose makings are counted, and scripted baselines by name."""

    def __init__(self, **acts: Callable[[int], int]) -> None:
        self.log: list[str] = []
        self.targets: list[Any] = []
        self.baselines = {name: Scripted(name, self.log, act) for name, act in acts.items()}

    @hookimpl
    def register_targets(self, register: Any) -> None:
        def make(options: Any, parts: Any) -> Any:
            target = table_target(seed=1, cache=parts.cache)
            target.tokenizer = Letters("abcd")
            self.targets.append(target)
            return target

        register("counted", make)

    @hookimpl
    def register_baselines(self, register: Any) -> None:
        for name, baseline in self.baselines.items():
            register(name, lambda options, parts, baseline_made=baseline: baseline_made)


def make_bench(
    folder: Path,
    plugin: BenchPlugin,
    *,
    variants: Sequence[str] = (),
    baselines: Sequence[str] = (),
    batches: Sequence[int] = (1,),
    contexts: Sequence[int] = (5,),
    sweeps: Sequence[str] = (),
    against: str | None = None,
    count: int | None = None,
    clock: Any = None,
    overrides: Sequence[str] = (),
    advance: Callable[[object], None] = lambda _: None,
    whole_peak: bool = False,
    **settings: Any,
) -> Bench:
    """Return a benchmark of a config `config.yaml` with the plugin's target, as the command would make it."""
    file = folder / "config.yaml"
    file.write_text(CONFIG)
    session = Plugins.load([plugin])
    subjects = plan_subjects([file], variants, baselines, session)
    points = plan_points(batches, contexts, [read_sweep(sweep) for sweep in sweeps])
    plan = Plan(subjects, points, choose_reference(against, subjects), read_overrides(overrides), **settings)
    plan.check(session)
    more = {} if clock is None else {"clock": clock}
    more = {**more, "advance": advance, "whole_peak": whole_peak}
    return Bench(plan, Workload(count=count), session, bandwidth=lambda device: 1e9, **more)


def all_runs(bench: Bench) -> list[Run]:
    return [run for runs in bench.runs() for run in runs]
