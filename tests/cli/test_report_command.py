"""`orthrus report`: a page and its plots on disk, and bad input in one sentence, with nothing written."""

from __future__ import annotations

import dataclasses
import re
import shutil
import sys
from pathlib import Path

import pytest
from support.benchmarks import measured
from support.program import InProcess

from orthrus.bench.markdown_report import make_report
from orthrus.bench.results_file import write_results


@pytest.fixture
def results(tmp_path: Path) -> Path:
    file = tmp_path / "speed.json"
    write_results(measured(), file)
    return file


@pytest.fixture
def undrawn(tmp_path: Path) -> Path:
    """Give results of which there are no plots, for drawing is slow: each subject was measured by itself."""
    file = tmp_path / "speed.json"
    write_results(dataclasses.replace(measured(), settings={**measured().settings, "isolated": True}), file)
    return file


def test_the_page_and_its_plots_are_written(results: Path, tmp_path: Path, orthrus: InProcess) -> None:
    page = tmp_path / "deep" / "page.md"
    done = orthrus("report", results, "--out", page)
    assert (done.code, done.err) == (0, "")
    assert done.out == f"{page}: benchmarks: 1, figures in {tmp_path / 'deep' / 'page-figures'}: 3\n"
    report = make_report({"speed": measured()}, folder="page-figures")
    assert page.read_text(encoding="utf-8") == report.markdown
    written = {file.name: file.read_text(encoding="utf-8") for file in (tmp_path / "deep" / "page-figures").iterdir()}
    assert written == {figure.name: figure.svg for figure in report.figures}


def test_the_page_finds_its_plots_wherever_they_are(results: Path, tmp_path: Path, orthrus: InProcess) -> None:
    page = tmp_path / "docs" / "page.md"
    orthrus("report", results, "--out", page, "--figures", tmp_path / "all plots")
    links = re.findall(r"\]\((.+)\)", page.read_text(encoding="utf-8"))
    assert links[0] == "../all%20plots/speed-speed-by-batch.svg"
    assert all((page.parent / link.replace("%20", " ")).is_file() for link in links)


def test_the_introduction_comes_first(undrawn: Path, tmp_path: Path, orthrus: InProcess) -> None:
    words = tmp_path / "words.md"
    words.write_text("# Speed\n\nAs measured.\n", encoding="utf-8")
    other = shutil.copy(undrawn, tmp_path / "other.json")
    orthrus("report", undrawn, other, "--out", tmp_path / "page.md", "--introduction", words)
    text = (tmp_path / "page.md").read_text(encoding="utf-8")
    assert text.startswith("# Speed\n\nAs measured.\n\n## A table\n")
    assert text.count("\n## ") == 2


@pytest.mark.thorough
def test_the_same_files_give_the_same_page(results: Path, tmp_path: Path, orthrus: InProcess) -> None:
    def pages() -> dict[str, bytes]:
        orthrus("report", results, "--out", tmp_path / "page.md")
        return {path.name: path.read_bytes() for path in tmp_path.rglob("*") if path.suffix in (".md", ".svg")}

    assert pages() == pages()


def test_bad_input_is_one_sentence_and_writes_nothing(undrawn: Path, tmp_path: Path, orthrus: InProcess) -> None:
    gone, foreign = tmp_path / "gone.json", tmp_path / "foreign.json"
    foreign.write_text("{}", encoding="utf-8")
    (tmp_path / "bytes.md").write_bytes(b"\xff\xfe")
    twin = tmp_path / "twin" / "speed.json"
    write_results(measured(), twin)
    page = tmp_path / "new" / "page.md"
    cases: list[tuple[list[object], str]] = [
        ([gone], f"the file '{gone}' does not exist"),
        ([foreign], f"'{foreign}' holds no results of `orthrus bench`"),
        ([undrawn, twin], "two files are called 'speed'; the figures of one would replace the other's"),
        ([undrawn, "--introduction", gone], f"the file '{gone}' does not exist"),
        ([undrawn, "--introduction", tmp_path / "bytes.md"], f"the file '{tmp_path / 'bytes.md'}' is not UTF-8 text"),
        ([undrawn, "--figures", foreign], f"--figures: '{foreign}' is no directory"),
        ([], "Missing argument"),
    ]
    for arguments, error in cases:
        assert orthrus("report", *arguments, "--out", page).error().startswith(error)
    assert orthrus("report", undrawn, "--out", tmp_path).error() == f"--out: '{tmp_path}' is a directory"
    assert orthrus("report", undrawn, "--out", "").error() == "--out must name a file"
    assert (
        orthrus("report", undrawn, "--out", undrawn)
        .error()
        .endswith("is one of the files that the report is made from")
    )
    assert orthrus("report", undrawn).error().startswith("Missing option '--out'")
    assert orthrus("report", undrawn, "--out", foreign / "page.md").error().startswith(f"'{foreign}")
    assert not page.parent.exists()


def test_without_matplotlib_nothing_is_written(
    results: Path, tmp_path: Path, orthrus: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    error = orthrus("report", results, "--out", tmp_path / "page.md").error()
    assert error == "plots need matplotlib: pip install 'orthrus-decoding[bench]'"
    assert not (tmp_path / "page.md").exists()
