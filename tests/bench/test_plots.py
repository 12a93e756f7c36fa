"""Plots: one for each swept number, one for the phases; readable without colour; the same SVG every time."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import matplotlib as mpl
import pytest
from hypothesis import Phase, given, settings
from support.benchmarks import benchmarks, measured

from orthrus import InputError
from orthrus.bench import plots
from orthrus.bench.markdown_report import make_report
from orthrus.bench.plots import HATCHES, LINES, MARKERS, draw_figures
from orthrus.bench.results import Phases, Results, Run, Spread
from orthrus.bench.results_file import read_results, write_results

SVG = "{http://www.w3.org/2000/svg}"
DRAW = """
import sys
from pathlib import Path
from orthrus.bench.plots import draw_figures
from orthrus.bench.results_file import read_results

for figure in draw_figures(read_results(Path(sys.argv[1])), "x"):
    sys.stdout.write(figure.svg)
"""


def texts(svg: str) -> list[str]:
    """Return the texts of a plot; they are text, not shapes."""
    return ["".join(element.itertext()).strip() for element in ElementTree.fromstring(svg).iter(f"{SVG}text")]


def swept(points: list[dict[str, object]], labels: tuple[str, ...] = ("none", "replay")) -> Results:
    """Return results whose speed is the place of the run."""
    runs = [
        Run(label, "decoder", point, tokens_per_second=Spread((100.0 + index, 110.0 + index)))
        for index, (point, label) in enumerate((point, label) for point in points for label in labels)
    ]
    return dataclasses.replace(measured(), runs=tuple(runs))


def names(results: Results) -> list[str]:
    return [figure.name for figure in draw_figures(results, "x")]


def test_a_figure_for_each_swept_number_and_each_measure_and_one_for_phases(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plots, "draw_svg", lambda *how, **more: "")  # drawing is slow, and only names count here
    assert names(measured()) == ["x-speed-by-batch.svg", "x-pass-by-batch.svg", "x-phases.svg"]
    assert names(swept([{"batch": 1, "context": 5}, {"batch": 2, "context": 5}])) == ["x-speed-by-batch.svg"]
    grid = [{"batch": batch, "drafter.block": block} for batch in (1, 2) for block in (4, 8)]
    assert names(swept(grid)) == ["x-speed-by-batch.svg", "x-speed-by-drafter-block.svg"]
    assert names(swept([{"target.engine": "eager"}, {"target.engine": "fused"}])) == []
    assert names(swept([{"chat": True}, {"chat": False}])) == []
    assert names(swept([{"batch": 1}])) == []
    alone = dataclasses.replace(measured(), settings={**measured().settings, "isolated": True})
    assert names(alone) == []  # each was measured by itself: times do not compare


def test_a_line_for_each_subject_and_for_what_else_is_swept() -> None:
    grid = [{"batch": batch, "target.engine": engine, "context": 7} for batch in (1, 40960) for engine in ("a", "b")]
    [figure] = draw_figures(swept(grid), "x")
    shown = texts(figure.svg)
    for line in ("none, target.engine a", "none, target.engine b", "replay, target.engine a"):
        assert line in shown
    assert {"batch", "tokens/s", "1", "40,960"} <= set(shown)
    assert not any("context" in text for text in shown)


def test_subjects_differ_in_more_than_colour() -> None:
    results = swept([{"batch": 1}, {"batch": 2}], tuple("abcdefgh"))
    [figure] = draw_figures(results, "x")
    grey = re.sub(r"#[0-9a-f]{6}", "#000000", figure.svg)
    groups = re.findall(r'<g id="line2d_\d+">\s*<path [^>]*style="([^"]*)"', grey)
    assert len({style for style in groups if "stroke-dasharray" in style}) == len(LINES) - 1
    shapes = {re.sub(r"m[0-9a-f]{10}", "", path) for path in re.findall(r'<path id="m[0-9a-f]{10}" d="([^"]*)"', grey)}
    assert len(shapes) >= len(MARKERS)
    assert len(set(MARKERS)) == len(MARKERS) and len(set(HATCHES)) == len(dataclasses.fields(Phases))


def test_the_phases_are_hatched_and_named_and_summed() -> None:
    run = Run("replay", "decoder", {"batch": 1}, phases=Phases(0.001, 0.006, 0.002, 0.0005, 0.0005))
    [figure] = draw_figures(dataclasses.replace(measured(), runs=(run,)), "x")
    shown = texts(figure.svg)
    assert {"draft", "score", "verify", "commit", "other", "replay, batch 1", "10.0", "ms of a cycle"} <= set(shown)
    assert figure.svg.count("<pattern ") == len(HATCHES) - 1  # and one that is plain


@given(benchmarks())
@settings(max_examples=4, phases=(Phase.explicit, Phase.generate))  # drawing is slow
def test_any_results_can_be_drawn_and_the_plots_are_well_formed(results: Results) -> None:
    figures = draw_figures(results, "x")
    assert len({figure.name for figure in figures}) == len(figures)
    for figure in figures:
        root = ElementTree.fromstring(figure.svg)
        assert root.find(f"{SVG}title") is not None
        assert figure.name.removeprefix("x-").removesuffix(".svg").replace("-", "").isalnum()


def test_names_that_are_long_leave_room_for_the_plot() -> None:
    label = "a subject " * 20
    results = swept([{"batch": 1}, {"batch": 2}], (label,))
    profiled = dataclasses.replace(results.runs[0], phases=Phases(1, 1, 1, 1, 1))
    for figure in draw_figures(dataclasses.replace(results, runs=(profiled, *results.runs)), "x"):
        assert max(len(text) for text in texts(figure.svg)) <= 80
        assert "".join(label.split()) in "".join("".join(texts(figure.svg)).split())


def test_a_formula_in_a_name_is_a_name() -> None:
    [figure] = draw_figures(swept([{"batch": 1}, {"batch": 2}], ("$x_1$ <&> \\frac",)), "x")
    assert "$x_1$ <&> \\frac" in texts(figure.svg)


@pytest.mark.nightly
def test_the_same_results_give_the_same_svg_in_another_process_and_style(tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    write_results(measured(), file)
    with mpl.rc_context({"font.size": 30, "axes.facecolor": "red"}):
        here = "".join(figure.svg for figure in draw_figures(read_results(file), "x"))
    done = subprocess.run(
        [sys.executable, "-c", DRAW, str(file)], capture_output=True, encoding="utf-8", timeout=120, check=True
    )
    assert done.stdout == here
    assert "Date" not in here and "<dc:date>" not in here
    assert mpl.rcParams["svg.hashsalt"] != "orthrus"  # the style is left as it was


def test_another_value_gives_another_svg() -> None:
    first, second = swept([{"batch": 1}, {"batch": 2}]), swept([{"batch": 1}, {"batch": 3}])
    assert draw_figures(first, "x")[0].svg != draw_figures(second, "x")[0].svg


def test_without_matplotlib_there_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(InputError, match=r"^plots need matplotlib: pip install 'orthrus-decoding\[bench\]'$"):
        make_report({"x": measured()})
    assert make_report({"x": swept([{"batch": 1}])}).figures == ()  # nothing to plot
