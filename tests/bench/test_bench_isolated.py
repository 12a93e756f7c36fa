"""Subjects in processes of their own: what they give is what they give side by side, and nobody's failure spreads."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.bench import BenchPlugin, all_runs, make_bench
from support.program import PROGRAM, TABLE

from orthrus.bench import isolated
from orthrus.bench.isolated import IsolatedBench, child
from orthrus.bench.plan import Plan, plan_points, plan_subjects
from orthrus.bench.results import Run
from orthrus.bench.results_file import read_results
from orthrus.bench.workload import Workload
from orthrus.config.compose import read_overrides
from orthrus.registry.plugins import Plugins

PROMPTS = Workload()


def a_plan(**settings: Any) -> Plan:
    session = Plugins.load()
    subjects = plan_subjects([TABLE], ["short: drafter.length=2"], ["none"], session)
    overrides = read_overrides(["stop.max_new_tokens=8"])
    return Plan(subjects, plan_points((1,), (6, 9), []), "none", overrides, **{"rounds": 2, **settings})


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Do a child's work in this process, and note the files that say what it is."""
    files: list[Path] = []

    def run(file: Path) -> int:
        files.append(file)
        child(str(file))
        return 0

    monkeypatch.setattr(isolated, "run_child", run)
    monkeypatch.setattr("orthrus.bench.bandwidth.CPU_BYTES", 2**16)
    return files


def runs_of(bench: IsolatedBench) -> list[Run]:
    return [run for runs in bench.runs() for run in runs]


def test_every_subject_is_measured_and_compared_at_every_point(started: list[Path]) -> None:
    steps: list[object] = []
    bench = IsolatedBench(a_plan(), PROMPTS, steps.append)
    runs = runs_of(bench)
    labels = ("none", TABLE.stem, "short")
    assert [(run.label, run.point["context"]) for run in runs] == [(label, c) for c in (6, 9) for label in labels]
    for run in runs:
        assert run.error is None and run.identical == 1.0 and run.phases is not None
        assert run.ratio is not None and len(run.ratio.values) == 2
    assert len(steps) == a_plan().total
    assert list(bench.copy_bandwidths.values()) != [None]
    assert len(started) == len(set(started)) == 6  # a process each


@pytest.mark.parametrize("code", [1, -9])
def test_a_process_that_dies_takes_no_other_subject_with_it(
    code: int, started: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    own, calls = isolated.run_child, itertools.count()
    monkeypatch.setattr(isolated, "run_child", lambda file: code if next(calls) == 1 else own(file))
    plan = replace(a_plan(rounds=1, warm_up=0, phases=False), points=a_plan().points[:1])
    errors = [run.error for run in runs_of(IsolatedBench(plan, PROMPTS))]
    assert errors == [None, f"its process ended with exit status {code}", None]


@pytest.mark.thorough
def test_ctrl_c_ends_the_child_and_leaves_the_points_before(tmp_path: Path) -> None:
    out = tmp_path / "results.json"
    arguments = ["bench", "--config", str(TABLE), "--context", "6", "--batch", "1,2", "--count", "2", "--isolated"]
    limits = ["--rounds", "1", "--out", str(out), "--sweep", "stop.max_new_tokens=2,900000"]  # the second takes long
    process = subprocess.Popen(
        [*PROGRAM, *arguments, *limits], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, process_group=0
    )
    try:
        until = time.monotonic() + 120
        while not (out.exists() and len(read_results(out).runs) == 2) and time.monotonic() < until:
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        printed, err = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert (process.returncode, err) == (130, "")
    assert TABLE.stem in printed and "Traceback" not in printed
    with pytest.raises(ProcessLookupError):  # nobody is left of the group
        os.killpg(process.pid, 0)


def test_ctrl_c_while_a_child_is_started_ends_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[subprocess.Popen[bytes]] = []

    def interrupted(command: list[str]) -> subprocess.Popen[bytes]:
        started.append(own([sys.executable, "-c", "import time; time.sleep(60)"]))
        os.kill(os.getpid(), signal.SIGINT)
        return started[0]

    own = subprocess.Popen
    monkeypatch.setattr(isolated.subprocess, "Popen", interrupted)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where a shell started this behind it
    try:
        with pytest.raises(KeyboardInterrupt):
            isolated.run_child(tmp_path / "work")
    finally:
        signal.signal(signal.SIGINT, before)
    assert started[0].returncode == -signal.SIGKILL
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])


@pytest.mark.parametrize(("whole", "resets"), [(False, 3), (True, 1)])
def test_the_whole_peak_is_that_since_the_first_run(
    whole: bool, resets: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[int] = []
    monkeypatch.setattr("orthrus.bench.subjects.reset_peak", lambda: done.append(1))
    bench = make_bench(tmp_path, BenchPlugin(), rounds=2, warm_up=1, phases=False, whole_peak=whole)
    all_runs(bench)
    assert len(done) == resets
