"""Pages, pictures and cards that a program writes are what it writes today of the records that are committed."""

from __future__ import annotations

import inspect
import json
import runpy
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from docs_pages import ROOT
from docs_plots import same
from support.thorough import thorough_but

from orthrus.bench.markdown_report import make_report
from orthrus.bench.results_file import read_results

DOCS = ROOT / "docs"
Files = dict[str, str]  # by their path from the root of the repository, or the folder that stands for it


def tool(name: str) -> dict[str, Any]:
    return runpy.run_path(str(DOCS / "tools" / f"{name}.py"))


def below(folder: str, files: Files) -> Files:
    return {f"{folder}/{name}": text for name, text in files.items()}


def training_log() -> Files:
    program, records = tool("training_log"), DOCS / "evidence" / "training"
    plots = below("docs/results/figures/training", program["plots"](records))
    views = program["VIEW"].read_text(encoding="utf-8")
    table = program["between"](views, program["HEADS"], program["head_lines"](records))
    return {"docs/results/training-log.md": program["page"](records), "docs/explanation/dual-view.md": table, **plots}


def lossless_evidence() -> Files:
    program = tool("lossless_evidence")
    plots = below("docs/results/figures/lossless", program["plots"](DOCS))
    return {"docs/explanation/lossless.md": program["page"](DOCS), **plots}


def benchmarks() -> Files:
    records = DOCS / "evidence" / "benchmarks"
    introduction = (records / "introduction.md").read_text(encoding="utf-8")
    results = {file.stem: read_results(file) for file in sorted(records.glob("*.json"))}
    report = make_report(results, introduction, "figures/benchmarks")
    plots = below("docs/results/figures/benchmarks", {figure.name: figure.svg for figure in report.figures})
    return {"docs/results/benchmarks.md": report.markdown, **plots}


def pass_breakdown() -> Files:
    program = tool("pass_breakdown")
    lines = program["page_lines"](program["read"](program["FOUND"]))
    text = program["INTRODUCTION"].read_text(encoding="utf-8")
    return {"docs/evidence/benchmarks/introduction.md": program["page_text"](text, lines)}


def dual_mask() -> Files:
    return {"docs/explanation/dual-mask.svg": tool("dual_mask")["drawing"]()}


def one_pass_mask() -> Files:
    return {"docs/explanation/one-pass.svg": tool("one_pass_mask")["drawing"]()}


def tree_picture() -> Files:
    program = tool("tree_picture")
    tree = json.loads(program["KEPT"].read_text(encoding="utf-8"))
    return {"docs/explanation/tree.svg": program["drawing"](tree)}


def view_card() -> Files:
    program = tool("view_card")
    facts = yaml.safe_load(program["CARD"].read_text(encoding="utf-8"))
    figures = {name: json.dumps(values) for name, values in program["figures"](facts).items()}
    return below(f"plugins/orthrus_diffusion/views/{facts['view']}", {"README.md": program["card"](facts), **figures})


def which_drafter() -> Files:
    program = tool("which_drafter")
    return {"docs/results/which-drafter-when.md": program["page"](program["FOLDER"])}


def verified_drafters() -> Files:
    program = tool("verify_drafters")
    record = json.loads((DOCS / program["RECORD"]).read_text(encoding="utf-8"))
    return {f"docs/{program['PAGE']}": program["page"](record)}


def cache_memory() -> Files:
    program = tool("cache_memory")
    return {"docs/explanation/caches.md": program["page"](program["PAGE"].read_text(encoding="utf-8"))}


def parallel_table() -> Files:
    program = tool("parallel_table")
    return {"docs/guide/several-gpus.md": program["page"](program["PAGE"].read_text(encoding="utf-8"))}


def steady_table() -> Files:
    program = tool("steady_table")
    return {"docs/explanation/lossless.md": program["page"](program["PAGE"].read_text(encoding="utf-8"))}


def cache_speeds() -> Files:
    program = tool("cache_speeds")
    return {"docs/explanation/caches.md": program["page"](program["PAGE"].read_text(encoding="utf-8"))}


def held_codes() -> Files:
    program = tool("held_codes")
    return {"docs/explanation/caches.md": program["page"](program["PAGE"].read_text(encoding="utf-8"))}


def verified_caches() -> Files:
    program = tool("verify_caches")
    record = json.loads((DOCS / program["RECORD"]).read_text(encoding="utf-8"))
    return {f"docs/{program['PAGE']}": program["page"](record)}


def combinations() -> Files:
    program = tool("combinations")
    record = json.loads((DOCS / program["RECORD"]).read_text(encoding="utf-8"))
    return {f"docs/{program['PAGE']}": program["page"](record)}


def part_pages() -> Files:
    return below("docs/reference/parts", tool("part_pages")["pages"]())


def rollback_costs() -> Files:
    program = tool("rollback_costs")
    return {"docs/explanation/caches.md": program["page"](program["PAGE"].read_text(encoding="utf-8"))}


def families() -> Files:
    program = tool("families")
    content = json.loads(program["EVIDENCE"].read_text(encoding="utf-8"))
    return {"docs/reference/families.md": program["page"](content)}


WRITTEN: list[Callable[[], Files]] = [
    training_log,
    lossless_evidence,
    benchmarks,
    verified_drafters,
    pass_breakdown,
    dual_mask,
    one_pass_mask,
    tree_picture,
    view_card,
    which_drafter,
    cache_memory,
    cache_speeds,
    held_codes,
    parallel_table,
    steady_table,
    verified_caches,
    part_pages,
    combinations,
    rollback_costs,
    families,
]


def differences(root: Path, written: Files) -> list[str]:
    """Complain about files that are not what a program writes, and about plots that it does not."""
    folders = {Path(name).parent for name in written if "figures/" in name}
    there = {str(file.relative_to(root)) for folder in folders for file in (root / folder).glob("*")}
    left = sorted(there - set(written))
    return left + [name for name, text in written.items() if not equal(root / name, text)]


def equal(file: Path, text: str) -> bool:
    """Compare to the letter, plots but for rounding, JSON by its values."""
    if not file.is_file():
        return False
    held = file.read_text(encoding="utf-8")
    if file.suffix == ".json":
        return bool(json.loads(held) == json.loads(text))
    return held == text or (file.suffix == ".svg" and "Matplotlib" in held and same(held, text))


@pytest.mark.parametrize(
    "write",
    thorough_but([write for write in WRITTEN if write is not benchmarks], WRITTEN),
    ids=lambda write: write.__name__,
)
def test_what_is_committed_is_what_its_program_writes(write: Callable[[], Files]) -> None:
    assert differences(ROOT, write()) == []


PLOT = "<!-- Created with Matplotlib v1.0, --><text x='1'>step</text>"
SOME = {"page.md": "a", "card.json": '{"a": 1}', "figures/training/a.svg": PLOT}
CHANGES: dict[str, tuple[str, str | None]] = {
    "a page": ("page.md", "b"),
    "a page that is gone": ("page.md", None),
    "a figure of a card": ("card.json", '{"a": 2}'),
    "a plot": ("figures/training/a.svg", PLOT.replace("step", "steps")),
    "a plot that is gone": ("figures/training/a.svg", None),
    "a plot that is left over": ("figures/training/old.svg", PLOT),
}


def put(root: Path, files: Files) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")


@pytest.mark.parametrize("change", CHANGES)
def test_what_was_changed_by_hand_is_noticed(change: str, tmp_path: Path) -> None:
    name, text = CHANGES[change]
    put(tmp_path, SOME)
    assert differences(tmp_path, SOME) == []
    if text is None:
        (tmp_path / name).unlink()
    else:
        put(tmp_path, {name: text})
    assert differences(tmp_path, SOME) == [name]


def test_parts_are_described_by_their_own_classes() -> None:
    """A factory may return one of several."""
    program = tool("part_pages")
    texts = [program["documented"](entry) for entry in program["built_in"]()]
    assert len(texts) > 10
    assert inspect.getdoc(types.UnionType) not in texts
