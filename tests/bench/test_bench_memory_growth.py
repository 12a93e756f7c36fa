"""By how much a subject's memory grows more than the reference's, as a share of what the keys grow by."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from orthrus.bench.markdown_report import section
from orthrus.bench.memory_growth import memory_growth
from orthrus.bench.results import Results, Run
from orthrus.bench.results_file import read_results, to_json, write_results

WEIGHTS, SLOT = 10_000, 50


def run(label: str, context: int, peak: int | None, **point: Any) -> Run:
    return Run(
        label, "decoder", {"context": context, **point}, peak_memory_bytes=peak, pass_bytes=WEIGHTS + SLOT * context
    )


def results(*runs: Run, isolated: bool = True) -> Results:
    settings = {"against": "none", **({"isolated": True} if isolated else {"order": "rotated"})}
    return Results("T", "orthrus bench", "2026-11-21", {"device": "a GPU"}, settings, runs)


RUNS = (
    run("none", 100, 20_000),
    run("none", 300, 31_000),
    run("none", 500, 41_000),
    run("replay", 100, 20_700),
    run("replay", 300, 99_000),  # between the ends: not looked at
    run("replay", 500, 42_100),
)


def test_growth_is_of_the_peak_over_the_references_from_the_lowest_context_to_the_highest() -> None:
    [grown] = memory_growth(results(*RUNS))
    # 1,100 more at 500 and 700 more at 100, while 400 tokens of keys take 20,000
    assert (grown.label, grown.against, grown.contexts) == ("replay", "none", (100, 500))
    assert (grown.extra_bytes, grown.keys_bytes, grown.share) == (400, 20_000, 0.02)
    assert "2.00 % of the 0 MiB by which keys and values grow" in str(grown)


def test_points_are_compared_with_their_like() -> None:
    doubled = [replace(run, point={**run.point, "batch": 2}) for run in RUNS]
    doubled = [replace(run, peak_memory_bytes=2 * (run.peak_memory_bytes or 0)) for run in doubled]
    grown = memory_growth(results(*(replace(run, point={**run.point, "batch": 1}) for run in RUNS), *doubled))
    assert [(growth.point, growth.extra_bytes) for growth in grown] == [({"batch": 1}, 400), ({"batch": 2}, 800)]
    assert "replay, batch 2: from context" in str(grown[1])


def test_where_memory_is_shared_or_not_known_nothing_is_told() -> None:
    assert memory_growth(results(*RUNS, isolated=False)) == []
    assert memory_growth(results(*(replace(run, peak_memory_bytes=None) for run in RUNS))) == []
    assert memory_growth(results(*(run for run in RUNS if run.point["context"] == 100))) == []
    assert memory_growth(results(*RUNS[3:])) == []  # without the reference
    assert memory_growth(results(*RUNS[:3])) == []  # the reference alone
    failed = [replace(RUNS[2], peak_memory_bytes=None, error="it ran out of memory")]
    [grown] = memory_growth(results(*RUNS[:2], *failed, *RUNS[3:]))
    assert grown.contexts == (100, 300)  # the highest at which both ran


def test_without_a_passs_bytes_there_is_no_share() -> None:
    [grown] = memory_growth(results(*(replace(run, pass_bytes=None) for run in RUNS)))
    assert (grown.extra_bytes, grown.keys_bytes, grown.share) == (400, None, None)
    assert str(grown).endswith("peak memory grows by 0.0 MiB more than that of none")


def test_json_holds_it_and_is_read_without_it(tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    write_results(results(*RUNS), file)
    [told] = json.loads(file.read_text())["memory_growth"]
    assert (told["label"], told["share"], told["extra_bytes"], told["contexts"]) == ("replay", 0.02, 400, [100, 500])
    assert memory_growth(read_results(file)) == memory_growth(results(*RUNS))
    assert "memory_growth" not in json.loads(to_json(results(*RUNS, isolated=False)))


def test_a_report_tells_it() -> None:
    assert any(
        line.startswith("- replay: from context 100 to 500 peak memory grows") for line in section(results(*RUNS))
    )
