"""From samples to a run, and from results to JSON and back."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orthrus.bench.aggregate import failed, measured
from orthrus.bench.measurement import Measurement
from orthrus.bench.plan import Point, SubjectPlan
from orthrus.bench.profiler import Profile
from orthrus.bench.results import Phases, Results, Run, Spread
from orthrus.bench.results_file import read_results, write_results
from orthrus.metrics import Measures
from orthrus.testing.profiles import fewer

SUBJECT = SubjectPlan("one", Path("one.yaml"))
POINT = Point(2, 5, {"batch": 2, "context": 5})
seconds = st.floats(1e-3, 1e3)
measures = st.builds(
    lambda accepted, extra, time: Measures(
        sum(accepted) + len(accepted) + 1, len(accepted), len(accepted) + 1, tuple(accepted), time, extra
    ),
    st.lists(st.integers(0, 9), max_size=4),
    seconds,
    seconds,
)


@st.composite
def samples(draw: Any, prompts: int, rounds: int) -> list[Measurement]:
    def sample() -> Measurement:
        tokens = tuple(tuple(draw(st.lists(st.integers(0, 1), min_size=1, max_size=2))) for _ in range(prompts))
        rows = tuple(draw(measures) for _ in range(prompts))
        return Measurement(tokens, draw(seconds), draw(seconds), draw(seconds), rows, draw(st.integers(0, 10**12)))

    return [sample() for _ in range(rounds)]


both = st.tuples(st.integers(1, 3), st.integers(1, 4)).flatmap(lambda size: st.tuples(samples(*size), samples(*size)))


@fewer(3)
@given(both)
def test_a_run_holds_what_its_rounds_gave(pair: tuple[list[Measurement], list[Measurement]]) -> None:
    mine, theirs = pair
    run = measured(SUBJECT, POINT, mine, theirs)
    assert (run.label, run.kind, run.point, run.error) == ("one", "decoder", POINT.values, None)
    assert run.prompts == len(mine[0].token_ids)
    assert run.new_tokens == sum(len(tokens) for tokens in mine[0].token_ids)
    assert run.tokens_per_second is not None and run.ratio is not None
    assert run.ttft_seconds is not None and run.cycle_seconds is not None
    assert run.ttft_seconds.values == tuple(measurement.ttft_seconds for measurement in mine)
    assert run.cycle_seconds.values == tuple(measurement.cycle_seconds for measurement in mine)
    assert run.peak_memory_bytes == max(measurement.peak_memory_bytes or 0 for measurement in mine)
    for index, (measurement, other) in enumerate(zip(mine, theirs, strict=True)):  # the ratio is of the same round
        speed = sum(map(len, measurement.token_ids)) / measurement.seconds
        assert run.tokens_per_second.values[index] == speed
        assert run.ratio.values[index] == speed / (sum(map(len, other.token_ids)) / other.seconds)
    same = [
        a == b
        for measurement, other in zip(mine, theirs, strict=True)
        for a, b in zip(measurement.token_ids, other.token_ids, strict=True)
    ]
    assert run.identical == statistics.fmean(same)


@fewer(3)
@given(st.integers(1, 3).flatmap(lambda count: samples(count, 3)))
def test_ratios_are_pooled_and_per_prompt_over_all_rounds(measurements: list[Measurement]) -> None:
    run = measured(SUBJECT, POINT, measurements)
    rows = [row for measurement in measurements for row in measurement.measures]
    cycled = [row for row in rows if row.cycles]
    assert run.tpf == pytest.approx(
        (
            sum(row.new_tokens for row in rows) / sum(row.passes for row in rows),
            statistics.fmean(row.tpf or 0 for row in rows),
        )
    )
    if not cycled:
        assert (run.tokens_per_cycle, run.accepted_length) == (None, None)
        return
    cycles = sum(row.cycles for row in cycled)
    assert run.tokens_per_cycle is not None and run.accepted_length is not None
    assert run.tokens_per_cycle[0] == pytest.approx(sum(row.new_tokens - 1 for row in cycled) / cycles)
    assert run.tokens_per_cycle[1] == pytest.approx(statistics.fmean(row.tokens_per_cycle or 0 for row in cycled))
    assert run.accepted_length[0] == pytest.approx(sum(sum(row.accepted_per_cycle) for row in cycled) / cycles)


def test_what_nobody_told_is_nothing() -> None:
    silent = Measurement(((1,), (2,)), 2.0, None, None, ())
    run = measured(SUBJECT, POINT, [silent, silent])
    assert run.tokens_per_second == Spread((1.0, 1.0))
    for name in ("ratio", "identical", "ttft_seconds", "cycle_seconds", "tokens_per_cycle", "tpf", "peak_memory_bytes"):
        assert getattr(run, name) is None
    partly = measured(SUBJECT, POINT, [silent, Measurement(((1,), (2,)), 2.0, 1.0, 1.0, ())])
    assert (partly.ttft_seconds, partly.cycle_seconds) == (None, None)  # no value a round


def test_a_reference_that_said_nothing_is_no_measure() -> None:
    mine, empty = Measurement(((1,),), 2.0, None, None, ()), Measurement(((),), 2.0, None, None, ())
    assert measured(SUBJECT, POINT, [mine], [empty]).ratio is None


def test_drafts_of_a_baseline_are_not_told_but_its_cycles_are() -> None:
    row = Measures(9, 4, 5, (), 1.0, None)
    run = measured(SUBJECT, POINT, [Measurement(((1,) * 9,), 2.0, None, None, (row,))])
    assert (run.tokens_per_cycle, run.tpf, run.accepted_length) == ((2.0, 2.0), (1.8, 1.8), None)


def test_the_share_of_the_bandwidth_is_bytes_over_bandwidth_over_the_time_of_the_pass() -> None:
    measurement = Measurement(((1,),), 2.0, None, None, ())
    phases = Phases(draft=0.5, score=0.25, verify=0.125, commit=0.125, other=1.0)
    run = measured(SUBJECT, POINT, [measurement], [], Profile(phases, 6e9), 96e9)
    assert (run.phases, run.pass_bytes, run.bandwidth_share) == (phases, 6_000_000_000, 0.25)
    silent = measured(SUBJECT, POINT, [measurement], [], Profile(phases, None), 96e9)
    assert (silent.phases, silent.pass_bytes, silent.bandwidth_share) == (phases, None, None)
    assert measured(SUBJECT, POINT, [measurement], [], Profile(phases, 6e9), None).bandwidth_share is None


values = st.one_of(st.none(), st.integers(-5, 10**12), st.floats(allow_nan=False, allow_infinity=False), st.text())
spreads = st.none() | st.builds(Spread, st.lists(seconds, min_size=1, max_size=5).map(tuple))
pairs = st.none() | st.tuples(seconds, seconds)
runs = st.builds(
    Run,
    label=st.text(),
    kind=st.sampled_from(["decoder", "baseline"]),
    point=st.dictionaries(st.text(), values | st.lists(values)),
    prompts=st.integers(0, 99),
    new_tokens=st.integers(0, 99),
    tokens_per_second=spreads,
    ratio=spreads,
    ttft_seconds=spreads,
    cycle_seconds=spreads,
    tokens_per_cycle=pairs,
    accepted_length=pairs,
    tpf=pairs,
    identical=st.none() | st.floats(0, 1),
    phases=st.none() | st.builds(Phases, seconds, seconds, seconds, seconds, seconds),
    peak_memory_bytes=st.none() | st.integers(0, 10**12),
    pass_bytes=st.none() | st.integers(0, 10**12),
    bandwidth_share=st.none() | seconds,
    error=st.none() | st.text(),
)


@fewer(2)
@given(st.text(), st.dictionaries(st.text(), values), st.lists(runs, max_size=3), st.text())
def test_results_are_read_as_they_were_written(
    tmp_path_factory: pytest.TempPathFactory, title: str, settings: dict[str, Any], written_runs: list[Run], note: str
) -> None:
    results = Results(title, "orthrus bench", "2026-01-01", {"device": "x"}, settings, tuple(written_runs), note)
    file = tmp_path_factory.mktemp("results") / "new" / "results.json"
    write_results(results, file)
    assert read_results(file) == results
    assert [path.name for path in file.parent.iterdir()] == ["results.json"]
    for run, written in zip(written_runs, json.loads(file.read_text())["runs"], strict=True):
        if run.ratio is not None:
            assert written["ratio"]["median"] == run.ratio.median


def test_results_that_cannot_be_written_leave_the_old_ones(tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    good = Results("good", "", "", {}, {})
    write_results(good, file)
    with pytest.raises(ValueError, match="Out of range float"):
        write_results(Results("bad", "", "", {"copy_bandwidth": float("nan")}, {}), file)
    assert read_results(file) == good
    assert [path.name for path in tmp_path.iterdir()] == ["results.json"]


def test_a_failure_is_a_sentence_and_no_figures() -> None:
    run = failed(SUBJECT, POINT, "it ran out of memory")
    assert run == Run("one", "decoder", POINT.values, error="it ran out of memory")
