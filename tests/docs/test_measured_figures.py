"""Figures that stand in pages for readers: each is that of the record which was measured."""

from __future__ import annotations

import json
import re
import statistics
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from docs_pages import ROOT

DOCS = ROOT / "docs"
TRAINING = DOCS / "evidence" / "training"
BLOCKS = "without drafts, a GGUF file's own 4-bit blocks"
THREADS = {"one": "one-thread", "two": "two-threads"}


def record(name: str) -> Any:
    """Return a record of docs/evidence."""
    return json.loads((DOCS / "evidence" / name).read_text(encoding="utf-8"))


def page(name: str) -> str:
    """Return a page's text on one line."""
    return " ".join((ROOT / name).read_text(encoding="utf-8").split())


def text_record(name: str) -> str:
    """Return a record that is a text."""
    return (DOCS / "evidence" / name).read_text(encoding="utf-8")


def cases_of(batch: int) -> dict[str, dict[str, Any]]:
    """Return what was measured of the present build at a batch size, by drafter."""
    [run] = [run for run in record("smollm2-builds.json")["runs"] if run["batch"] == batch]
    return {case["drafter"]: case for case in run["cases"] if case["build"] == "now"}


def over_plain(batch: int, drafter: str) -> float:
    """Return how many times as fast as without drafts a drafter is."""
    cases = cases_of(batch)
    speeds = [cases[name]["tokens_per_second"][0] for name in (drafter, "{name: none}")]
    return float(speeds[0] / speeds[1])


def spread(ratio: dict[str, float], digits: int) -> str:
    """Return a median with the lowest and the highest."""
    return "{:.{d}f} ({:.{d}f} to {:.{d}f})".format(*(ratio[key] for key in ("median", "lowest", "highest")), d=digits)


def readme_of_the_view() -> Iterator[str]:
    """Yield what the README says of the shipped view."""
    held = yaml.safe_load((TRAINING / "trials.yaml").read_text(encoding="utf-8"))
    [trial] = [trial for trial in held["trials"] if trial["name"] == held["shipped"]]
    chain = record(f"training/{trial['name']}-acceptance.json")[trial["kept"]]["all"]
    yield f"{chain['pooled']:.2f} tokens per cycle, pooled over"
    yield f"{chain['ended_pooled']:.2f} over the answers that ended by themselves"
    head = record("successor-444.json")
    chains, trees = head["int8, block 16"]["all"], head["int8, block 16, tree of 63"]["all"]
    yield f"chains commit {chains['pooled']:.2f} ({chains['ended_pooled']:.2f}),"
    yield f"trees of 63 drafts {trees['pooled']:.2f} ({trees['ended_pooled']:.2f})."
    weights = DOCS.parent / "plugins/orthrus_diffusion/views/smollm2-135m-instruct/view.safetensors"
    yield f"is shipped ({weights.stat().st_size / 1e6:.0f} MB)"


def readme_of_speeds() -> Iterator[str]:
    """Yield the rows of the README's table of speeds."""
    measured, cases = record("smollm2-builds.json"), cases_of(1)
    where = f"one {measured['device'].removeprefix('NVIDIA ')}, {measured['dtype']}"
    for words, drafter in {
        "a tree of 31 drafts": "{name: diffusion, block: 16, tree: 31}",
        "a chain of 15": "{name: diffusion}",
    }.items():
        yield f"| shipped view, {words} | our own engine without drafts | {where} | {over_plain(1, drafter):.2f} ¹ |"
    [prompts] = {case["texts_as_plain"] for case in cases.values()}
    [rounds] = {len(case["ratios_of_rounds"]) for case in cases.values()}
    asked = f"The first {prompts} prompts, {measured['max_new_tokens']} new tokens"
    yield f"{asked}, medians of {rounds} rounds in turns; all texts are those without drafts."
    yield f"slower than no drafts: {over_plain(32, '{name: diffusion}'):.2f} times as fast."
    none, generate, view = record("benchmarks/6-diffusion-view.json")["runs"][:3]
    assert [run["label"] for run in (none, generate, view)] == ["none", "generate-static", "smollm2-diffusion-gpu"]
    static = "transformers' `generate`, static cache and compilation"
    yield f"{static} | one H100, bfloat16 | {view['ratio']['median']:.2f} ² |"
    for number, file in THREADS.items():
        ratios = record(f"cpu-engines/bars-{file}.json")["ratios"]
        cores = f"{number} CPU core{'s' if number == 'two' else ''}"
        llama, onnx = (
            spread(ratios[name]["speed"], 2) for name in ("native-gguf over llama.cpp", "native over onnxruntime-genai")
        )
        yield f"| {BLOCKS} | llama.cpp on the same file | {cores} | {llama} ³ |"
        yield f"| without drafts, float32 | ONNX Runtime GenAI in float32 | {cores} | {onnx} ³ |"


def trees_page() -> Iterator[str]:
    """Yield the rows of the speeds of trees."""
    for drafter, case in cases_of(1).items():
        median, lowest, highest = (f"{speed:,}" for speed in case["tokens_per_second"])
        words = f"`{drafter}`{': a chain of 15' if drafter == '{name: diffusion}' else ''}"
        yield f"| {words} | {median} ({lowest} to {highest}) | {case['tokens_per_cycle']:.2f} |"
    for words, name in {"chain of 15": "", "tree of 32": ", tree of 32", "tree of 63": ", tree of 63"}.items():
        files = record("successor-444.json")[f"int8, block 16{name}"]
        every, chats = files["all"], files["mt_bench"]
        yield f"| a {words} | {every['pooled']:.2f} | {every['ended_pooled']:.2f} | {chats['pooled']:.2f} |"


def native_page() -> Iterator[str]:
    """Yield the rows of the engine `native` that are of speeds, both numbers of threads side by side."""
    one, two = (record(f"cpu-engines/bars-{file}.json")["ratios"] for file in THREADS.values())
    for words, name, digits in (
        ("the file's blocks, over the old build", "native-gguf over old", 1),
        ("the file's blocks, over llama.cpp on the same file", "native-gguf over llama.cpp", 2),
        ("float32, over ONNX Runtime GenAI in float32", "native over onnxruntime-genai", 2),
        ("float32, over the old build", "native over old", 1),
    ):
        cells = [spread(ratios[name]["speed"], digits) for ratios in (one, two)]
        yield f"| {words} | {' | '.join(cells)} |"


def serving_page() -> Iterator[str]:
    """Yield the rows of what a server makes of many clients."""
    for load in record("serving-load.json"):
        config = load["config"].rpartition("/")[2].removesuffix(".yaml")
        shares = [
            f"{median:.2f} ({lowest:.2f} to {highest:.2f})"
            for median, lowest, highest in (load["whole over generate"], load["streamed over generate"])
        ]
        cpu = ", ".join(f"{load[kind]['web_cpu_microseconds_per_token']:.0f}" for kind in ("whole", "streamed"))
        waits = load["added milliseconds a chunk"][0]
        yield f"| `{config}` | {load['clients']} | {' | '.join(shares)} | {waits:.2f} | {cpu} |"


def published_page() -> Iterator[str]:
    """Yield the rows of what published drafters cost."""
    measured = record("drafter-costs.json")["milliseconds"]
    words = {"dflash": "`dflash`, five layers, block 16", "eagle3": "`eagle3`, chain of 5, 32,000 ids"}
    for name, label in words.items():
        means = [
            statistics.mean(each[key] for each in measured[name])
            for key in ("draft", "read_taps", "score", "share_of_score")
        ]
        yield f"| {label} | {' | '.join(f'{mean:.2f}' for mean in means)} |"
    least = min(measured["dflash_reference"], key=lambda each: each["draft"])
    yield f"took {least['draft']:.2f} ms in the round in which it took less"


def one_pass_page() -> Iterator[str]:
    """Yield the rows of what passes with blocks beside a draft cost."""
    costs = text_record("cycle-costs.txt")
    for program, lines in re.findall(r"python docs/tools/one_pass_cost.py --shape (\S+).*\n((?:context .*\n)+)", costs):
        shape = {"qwen3-8b": "Qwen3-8B", "smollm2-135m": "SmolLM2-135M"}[program]
        measured = re.findall(r"context (\d+): .*?(\d+) rows: ([\d.]+) ms (\(.*?\)), ([\d.]+)x", lines)
        for (context, rows, *scores, _), five, seven in zip(measured[::3], measured[1::3], measured[2::3], strict=True):
            cells = [f"{milliseconds} {spread}, {ratio} times" for _, _, milliseconds, spread, ratio in (five, seven)]
            yield f"| {shape}, {int(context):,} | {rows} columns: {' '.join(scores)} | {' | '.join(cells)} |"


PAGES = {
    "README.md": [readme_of_the_view, readme_of_speeds],
    "docs/explanation/native-engine.md": [native_page],
    "docs/explanation/one-pass.md": [one_pass_page],
    "docs/explanation/trees.md": [trees_page],
    "docs/guide/published-drafters.md": [published_page],
    "docs/guide/serving.md": [serving_page],
}
FIXED = ("is shipped", "new tokens, medians of")  # sentences without a figure that was measured


def wanted(name: str) -> list[str]:
    """Return what is to stand in a page."""
    rows = [list(source()) for source in PAGES[name]]
    assert all(rows), "a record has nothing that its page shows"
    return [row for each in rows for row in each]


def missing(name: str) -> list[str]:
    """Return what is to stand in a page and does not."""
    text = page(name)
    return [row for row in wanted(name) if row not in text]


def changed(value: Any, key: str = "") -> Any:
    """Return a record in which every speed, time and ratio is another, and so are those that are made of two."""
    if isinstance(value, dict):
        return {name: changed(each, name) for name, each in value.items()}
    if isinstance(value, list):
        return [changed(each, key) for each in value]
    measured = isinstance(value, float) or key in ("tokens_per_second", "ratios_of_rounds")
    return value**1.5 + 1 if measured else value


@pytest.mark.parametrize("name", PAGES)
def test_a_page_has_the_figures_of_its_records(name: str) -> None:
    assert missing(name) == []


@pytest.mark.parametrize("name", PAGES)
def test_a_record_with_other_figures_is_noticed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    true, true_text, here = record, text_record, globals()
    numbers = re.compile(r"\d+\.\d+")
    monkeypatch.setitem(here, "record", lambda file: changed(true(file)))
    monkeypatch.setitem(
        here, "text_record", lambda file: numbers.sub(lambda found: f"{1.5 * float(found[0]):.3f}", true_text(file))
    )
    ratios_alone = [row for row in wanted(name) if not any(words in row for words in FIXED)]
    assert [row for row in ratios_alone if row not in missing(name)] == []
