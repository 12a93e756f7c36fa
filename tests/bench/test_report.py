"""A report shows every run, and no number that is not in the results."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from support.benchmarks import benchmarks, measured

from orthrus import InputError
from orthrus.bench import formatting, markdown_report, plots
from orthrus.bench.markdown_report import make_report, section
from orthrus.bench.results import Results, Run, Spread
from orthrus.bench.results_file import read_results, to_json
from orthrus.testing.profiles import fewer

SCALES = {"TTFT, ms": 1000, "cycle, ms": 1000, "pass, ms": 1000, "peak memory, MiB": 2**-20}


def rows_of(paragraphs: list[str]) -> list[dict[str, str]]:
    """Return the rows of the section's table, by column."""
    [table] = [paragraph for paragraph in paragraphs if paragraph.startswith("| subject")]
    header, _, *lines = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in table.splitlines()]
    return [dict(zip(header, line, strict=True)) for line in lines]


def figures_in(cell: str) -> list[tuple[float, float]]:
    """Return each number of a cell with half a unit of its last digit."""
    values = []
    for text in re.findall(r"-?[\d,]+(?:\.\d+)?(?:e-?\d+)?", cell):
        mantissa, _, exponent = text.replace(",", "").partition("e")
        decimals = len(mantissa.partition(".")[2]) - int(exponent or 0)
        values.append((float(text.replace(",", "")), 0.5 * 10.0**-decimals))
    return values


def values_of(run: Run, column: str) -> list[float]:
    """Return what a column may show of a run, in the column's unit."""
    name = column.partition(",")[0]
    if name in ("tokens_per_cycle", "accepted_length", "tpf"):
        return list(getattr(run, name) or ())
    if name.startswith("ratio"):
        return spread_of(run.ratio)
    if name in ("identical", "of the bandwidth limit"):
        value = run.identical if name == "identical" else run.bandwidth_share
        return [] if value is None else [value * 100]
    if name == "pass":
        return [run.phases.score] if run.phases else []
    if name == "peak memory":
        return [] if run.peak_memory_bytes is None else [run.peak_memory_bytes]
    spreads = {"tokens/s": run.tokens_per_second, "TTFT": run.ttft_seconds, "cycle": run.cycle_seconds}
    return spread_of(spreads[name])


def spread_of(spread: Spread | None) -> list[float]:
    if spread is None:
        return []
    return [spread.median] if len(spread.values) == 1 else [spread.median, spread.low, spread.high]


def check(results: Results) -> None:
    """Assert that every run is a row, and that every number in it is one of the run's, rounded."""
    rows = rows_of(section(results))
    assert len(rows) == len(results.runs)
    for row, run in zip(rows, results.runs, strict=True):
        assert row.pop("subject") == formatting.escape(run.label)
        for key, value in run.point.items():
            assert row.pop(formatting.escape(key)) == formatting.escape(formatting.setting(value))
        told = row.pop("engine", "")  # words of the target's own
        assert told == ", ".join(f"{name} {value}" for name, value in (run.engine or {}).items())
        for column, cell in row.items():
            if run.error is not None and column == "tokens/s":
                assert cell == "failed"
                continue
            shown, values = figures_in(cell), values_of(run, column)
            if len(shown) == 1:  # what looks the same is shown once
                shown *= len(values)
            assert len(shown) == len(values), (column, cell)
            slack = 0.1 if cell.endswith("%") else 0.0  # rounded down
            for (figure, half), value in zip(shown, values, strict=True):
                scaled = value * SCALES.get(column, 1)
                assert abs(figure - scaled) <= half * (1 + 1e-9) + slack, (column, cell)


@fewer(8)
@given(benchmarks())
def test_every_run_is_a_row_and_every_number_one_of_its_values(results: Results) -> None:
    assume(all("\\" not in run.label for run in results.runs))  # so that the rows can be taken apart here
    check(results)


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        (
            "spread",
            lambda values, *rest, **more: formatting.spread(values and Spread((values.median * 1.01,)), *rest, **more),
        ),
        ("number", lambda value, *rest: formatting.number(value * 1.01, *rest)),
        ("share", lambda value: "" if value is None else "99.0 %"),
        ("pair", lambda values: "" if values is None else f"{values[0]:.2f}"),
    ],
)
def test_a_number_that_is_another_is_noticed(name: str, wrong: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    check(measured())
    monkeypatch.setattr(markdown_report, name, wrong)
    with pytest.raises(AssertionError):
        check(measured())


@fewer(10)
@given(benchmarks())
def test_columns_are_left_out_only_where_all_runs_are_empty(results: Results) -> None:
    [table] = [paragraph for paragraph in section(results) if paragraph.startswith("| subject")]
    for column, name in (("TTFT, ms", "ttft_seconds"), ("cycle, ms", "cycle_seconds"), ("identical", "identical")):
        assert (column in table) == any(getattr(run, name) is not None for run in results.runs)


@fewer(10)
@given(benchmarks())
def test_the_rest_of_a_section_is_the_results_own_words(results: Results) -> None:
    text = "\n\n".join(section(results))
    assert text.startswith(f"## {formatting.escape(results.title)}\n")
    assert f"\n$ {results.command}\n" in text
    assert formatting.escape(results.environment["device"]) in text
    assert "2026-11-21: " in text
    for run in results.runs:
        assert run.error is None or formatting.escape(f": {run.error}") in text
    assert text.endswith(formatting.escape(results.note))


@given(st.floats(1e-4, 1e12), st.integers(2, 5))
def test_numbers_are_rounded_to_the_digits_that_count(value: float, digits: int) -> None:
    text = formatting.number(value, digits)
    [(shown, half)] = figures_in(text)
    assert abs(shown - value) <= half * (1 + 1e-9)
    assert half <= 0.5 or value > 10**digits  # a thousand is never shown as 1e3
    assert half <= 0.51 * value * 10 ** (1 - digits) or half == 0.5
    assert "e+" not in text


def test_numbers_look_like_this() -> None:
    shown = [formatting.number(value) for value in (0.0, 0.01234, 1.0, 12.345, 999.6, 1000.4, 22060.0)]
    assert shown == ["0.00", "0.0123", "1.00", "12.3", "1,000", "1,000", "22,060"]
    assert formatting.spread(Spread((3.0, 1.0, 2.0)), 10, 2) == "20 (10 to 30)"
    assert formatting.spread(Spread((3.0,))) == "3.00"
    assert formatting.pair((1.0, 2.346)) == "1.00 / 2.35"
    assert (formatting.share(1.0), formatting.share(0.99999), formatting.share(0.0)) == ("100.0 %", "99.9 %", "0.0 %")
    assert [formatting.setting(setting) for setting in (512, 40960, 0.8, "a", True, None, [1, 2])] == [
        "512",
        "40,960",
        "0.8",
        "a",
        "True",
        "None",
        "1, 2",
    ]
    assert formatting.escape("a|b *c*\n_d_ e_f <g> [h]") == r"a\|b \*c\* \_d\_ e_f \<g\> \[h\]"


def test_failures_are_sentences_and_an_empty_benchmark_says_so() -> None:
    results = measured()
    assert "- generate, batch 16: it answers one prompt at a time" in section(results)
    empty = dataclasses.replace(results, runs=())
    assert "Nothing was measured." in section(empty)
    assert make_report({"x": empty}).figures == ()


def test_a_command_with_a_fence_in_it_stays_in_its_block() -> None:
    text = section(dataclasses.replace(measured(), command="orthrus bench --note '```'"))
    assert "<!-- not run: a benchmark -->\n````console\n$ orthrus bench --note '```'\n````" in text


def test_a_page_is_its_introduction_and_its_benchmarks_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plots, "draw_svg", lambda *how, **more: "<svg/>")  # drawing is slow, and none is looked at
    measured_results, other = measured(), dataclasses.replace(measured(), title="Another")
    report = make_report({"b": measured_results, "a": other}, "# Speed\n\nWords.\n", "plots")
    headings = [line for line in report.markdown.splitlines() if line.startswith("#")]
    assert headings == ["# Speed", "## A table", "## Another"]
    assert re.findall(r"\]\((.+)\)", report.markdown) == [f"plots/{figure.name}" for figure in report.figures]
    assert make_report({"b": measured_results}).markdown.startswith("# Benchmarks\n\n## A table\n")


# Files.


def damaged(**changes: Any) -> str:
    values = json.loads(to_json(measured()))
    run = {key: changes.pop(key) for key in list(changes) if key in values["runs"][0]}
    values["runs"][0] |= run
    return json.dumps(values | changes)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "is no JSON: "),
        ("{", "is no JSON: "),
        ("[" * 100_000, "is no JSON: "),
        ("[]", "holds no results of `orthrus bench`"),
        ('{"format": "orthrus-bench 2"}', "holds no results of `orthrus bench`"),
        ('{"format": "orthrus-bench 1"}', "is damaged: KeyError: 'runs'"),
        ('{"format": "orthrus-bench 1", "runs": []}', "is damaged: TypeError: "),
        (lambda: damaged(runs=3), "is damaged: TypeError: "),
        (lambda: damaged(runs=["x"]), "is damaged: ValueError: "),
        (lambda: damaged(more=1), "is damaged: TypeError: "),
        (lambda: damaged(title=None), "is damaged: title must be text, not null"),
        (lambda: damaged(environment=[]), "is damaged: environment must be a mapping to anything, not []"),
        (lambda: damaged(point=7), "is damaged: runs[0].point must be a mapping to anything, not 7"),
        (lambda: damaged(label=7), "is damaged: runs[0].label must be text, not 7"),
        (lambda: damaged(prompts=True), "is damaged: runs[0].prompts must be an integer, not true"),
        (lambda: damaged(prompts=1.5), "is damaged: runs[0].prompts must be an integer, not 1.5"),
        (lambda: damaged(identical="all"), "is damaged: runs[0].identical must be a number or null, not 'all'"),
        (lambda: damaged(identical=float("nan")), "is damaged: runs[0].identical must be a number, not nan"),
        (lambda: damaged(tpf=[1]), "is damaged: runs[0].tpf must be a list of 2: a number, a number or null, not (1,)"),
        (lambda: damaged(tpf=5), "is damaged: TypeError: "),
        (lambda: damaged(ratio={"values": []}), "is damaged: ValueError: a spread of no values"),
        (
            lambda: damaged(ratio={"values": ["x"]}),
            "is damaged: runs[0].ratio.values must be a list of a number, not ('x',)",
        ),
        (lambda: damaged(ratio={"median": 1}), "is damaged: KeyError: 'values'"),
        (lambda: damaged(phases={"draft": 1}), "is damaged: TypeError: "),
    ],
    ids=range(24),
)
def test_damaged_and_foreign_files_are_one_sentence(text: str | Callable[[], str], error: str, tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    file.write_text(text if isinstance(text, str) else text(), encoding="utf-8")
    with pytest.raises(InputError, match=re.escape(f"'{file}' {error}")):
        read_results(file)


def test_an_undamaged_file_is_none_of_them(tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    file.write_text(damaged(identical=1, note="x"), encoding="utf-8")
    assert read_results(file).runs[0].identical == 1
