"""docs/results/benchmarks.md: the command in its introduction makes such a page, and the documentation tells of it.

That it is what `orthrus report` makes of docs/evidence/benchmarks/ is in test_generated_pages.py.
"""

from __future__ import annotations

import dataclasses
import re
import shutil
import sys
from pathlib import Path

import docs_checks as checks
import matplotlib as mpl
import pytest
from docs_following import Workspace
from docs_pages import ROOT, Page, page
from docs_plots import same
from support.benchmarks import measured

from orthrus.bench.markdown_report import section
from orthrus.bench.results import Phases, Results, Run, Spread
from orthrus.bench.results_file import write_results
from orthrus.cli import main

DOCS = ROOT / "docs"
PAGE, RECORDS, FIGURES = "results/benchmarks.md", "evidence/benchmarks", "figures/benchmarks"  # beside the page


@pytest.fixture(scope="module")
def made_docs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a docs folder with two benchmarks, and the house's pages; run the command that the introduction shows."""
    folder = tmp_path_factory.mktemp("house")
    docs = folder / "docs"
    for file in (*DOCS.glob("*.md"), *DOCS.glob("*/*.md"), DOCS / RECORDS / "introduction.md"):
        copy = docs / file.relative_to(DOCS)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, copy)
    write_results(measured(), docs / RECORDS / "b.json")
    write_results(dataclasses.replace(measured(), title="First"), docs / RECORDS / "a.json")
    [block] = Page(docs / RECORDS / "introduction.md").of("console", "not run")
    arguments = block.text.removeprefix("$ orthrus ").replace("\\\n", "").split()
    files = arguments.index("docs/evidence/benchmarks/*.json")
    arguments[files : files + 1] = ["docs/evidence/benchmarks/a.json", "docs/evidence/benchmarks/b.json"]
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as left:
        patch.chdir(folder)
        patch.setattr(sys, "argv", ["orthrus", *arguments])
        main()
    assert left.value.code == 0
    return docs


@pytest.fixture
def docs(made_docs: Path, tmp_path: Path) -> Path:
    """Give a copy of it."""
    return Path(shutil.copytree(made_docs, tmp_path / "docs"))


@pytest.mark.thorough
def test_the_command_in_the_introduction_makes_the_page(docs: Path) -> None:
    text = (docs / PAGE).read_text(encoding="utf-8")
    assert text.index("# Benchmarks") < text.index("## First") < text.index("## A table")


@pytest.mark.thorough
def test_the_page_passes_what_every_page_must(docs: Path, tmp_path: Path) -> None:
    copy = Page(docs / PAGE)
    assert checks.links(copy) == []
    assert checks.quotations(copy) == []
    assert Workspace(tmp_path / "work").follow(copy) == []
    assert len(copy.of("console", "not run")) == 3
    (docs / "results" / FIGURES / "a-phases.svg").unlink()
    assert checks.links(copy) == [f"benchmarks.md: the link '{FIGURES}/a-phases.svg' leads nowhere"]


@pytest.mark.thorough
def test_a_plot_of_another_matplotlib_is_compared_by_its_texts(docs: Path) -> None:
    svg = (docs / "results" / FIGURES / "a-phases.svg").read_text(encoding="utf-8")
    other = svg.replace(f"Matplotlib v{mpl.__version__},", "Matplotlib v1.0,").replace("<svg ", "<svg  ")
    assert same(other, svg)
    assert not same(other.replace(">draft<", ">drafts<"), svg)
    assert not same(re.sub(r"<text .*?</text>", "", other), svg)


def whole() -> Results:
    """Return results in which nothing is missing."""
    spread = Spread((1.0, 2.0))
    pair = (1.0, 2.0)
    run = Run(
        "none",
        "decoder",
        {"batch": 1},
        1,
        1,
        spread,
        spread,
        spread,
        spread,
        pair,
        pair,
        pair,
        1.0,
        Phases(1, 1, 1, 1, 1),
        1,
        1,
        1.0,
        {"graphs": 1},
    )
    return dataclasses.replace(measured(), runs=(run,))


def test_the_columns_are_those_that_the_documentation_tells_of() -> None:
    [table] = [paragraph for paragraph in section(whole()) if paragraph.startswith("| subject")]
    columns = [column.strip() for column in table.splitlines()[0].strip("|").split(" | ")]
    told = [re.match(r"`([^`]+)`", row[0]) for row in page("docs/guide/reports.md").table("report columns")]
    assert [match and match.group(1) for match in told] == [column.replace(" to none", " to") for column in columns]
