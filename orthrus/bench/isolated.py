"""Runs every subject in its own process, so that its peak memory is its own.

A child reads from a file what it is to measure and puts its collector there; what else it prints goes where the
parent's output goes. Ctrl-C is the parent's, which ends the child.
"""

from __future__ import annotations

import pickle
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import torch

from orthrus.bench.collector import PointCollector
from orthrus.bench.plan import Plan, Point, SubjectPlan
from orthrus.bench.results import Run
from orthrus.bench.runner import Bench
from orthrus.bench.workload import Workload
from orthrus.errors import InputError
from orthrus.registry.plugins import Plugins

CHILD = "import sys; from orthrus.bench.isolated import child; child(sys.argv[1])"


class IsolatedBench:
    """Carry out a plan as `Bench` does, but subject by subject, each alone with the machine while it lasts."""

    def __init__(self, plan: Plan, prompts: Workload, advance: Callable[[object], None] = lambda _: None) -> None:
        self.copy_bandwidths: dict[torch.device, float | None] = {}
        self._plan = plan
        self._prompts = prompts
        self._advance = advance

    def runs(self) -> Iterator[list[Run]]:
        """Yield the runs of each point; Ctrl-C leaves the point that it falls into without any."""
        for point in self._plan.points:
            collector = PointCollector(self._plan, point)
            for subject in self._plan.subjects:
                with collector.noting(subject.label):
                    collector.join(self._alone(subject, point))
                for _ in range(self._plan.total // len(self._plan.points) // len(self._plan.subjects)):
                    self._advance(subject)
            yield collector.runs()

    def _alone(self, subject: SubjectPlan, point: Point) -> PointCollector:
        plan = replace(self._plan, subjects=(subject,), points=(point,), against=subject.label)
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "work"
            file.write_bytes(pickle.dumps((plan, self._prompts)))
            code = run_child(file)
            if code:
                raise InputError(f"its process ended with exit status {code}")
            collector: PointCollector
            collector, bandwidths = pickle.loads(file.read_bytes())  # what our own child wrote into our own folder
        self.copy_bandwidths |= bandwidths
        return collector


def run_child(file: Path) -> int:
    """Return the exit status of a process that measures what a file says; what ends the waiting ends the process.

    A Ctrl-C that comes while the process is started is raised once there is one to end. Another thread may take the
    signal although this one blocks it, so the handler is held, too.
    """
    held: list[int] = []
    own = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])  # a child inherits it, and never sees Ctrl-C
    before = signal.signal(signal.SIGINT, lambda number, frame: held.append(number))
    try:
        process = subprocess.Popen([sys.executable, "-c", CHILD, file])
        try:
            signal.pthread_sigmask(signal.SIG_SETMASK, own)  # a Ctrl-C that came meanwhile is noted here
            signal.signal(signal.SIGINT, before)
            if held:
                raise KeyboardInterrupt
            return process.wait()
        finally:
            process.kill()
            process.wait()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, own)
        signal.signal(signal.SIGINT, before)


def child(name: str) -> None:
    """Measure what a file says, and write what was found in its place."""
    file = Path(name)
    file.write_bytes(pickle.dumps(measure(*pickle.loads(file.read_bytes()))))


def measure(plan: Plan, prompts: Workload) -> tuple[PointCollector, dict[torch.device, float | None]]:
    """Return what the plan's one subject gave at its one point, and what its device can copy."""
    bench = Bench(plan, prompts, Plugins.load(), whole_peak=True)
    collector = PointCollector(plan, plan.points[0])
    bench.measure(plan.points[0], collector)
    return collector, bench.copy_bandwidths
