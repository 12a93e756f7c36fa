"""Makes docs/results/which-drafter-when.md of what `orthrus predict` wrote: `python docs/tools/which_drafter.py`.

docs/evidence/which-drafter/ has a file for each machine and kind of prompts, MACHINE-KIND.json, which
docs/tools/which_drafter.sh measures; one that is not there is left out. No figure is written by hand.
"""

from __future__ import annotations

import itertools
import json
import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parents[1]
FOLDER, PAGE = DOCS / "evidence" / "which-drafter", DOCS / "results" / "which-drafter-when.md"
FORMAT = "orthrus-predict 1"
MACHINES = {"cpu": "Two CPU cores", "gpu": "One H200"}
KINDS = {
    "dialogue": "the third turn of a dialogue",
    "edit": "a text or some code, and one change to make in it",
    "code": "code to be written from a description",
    "question": "questions and small sums",
}
HEAD = """# Which drafter when

SmolLM2-135M-Instruct with every drafter that can draft for it, on four kinds of prompts. The figures are what `orthrus
predict` measured and, beside it, what it had expected: [Predicting](../guide/predicting.md) says how, and [the
loop](../explanation/decode-loop.md#measures) what the measures are. `docs/tools/which_drafter.py` makes the page of the
files in `docs/evidence/which-drafter/`; the prompts are there, too.

A *ratio* is tokens per second over those of plain decoding, drafter `none`, in the same round: the median, and in
brackets the lowest and the highest round. A range that holds 1 says that nothing was won for certain. An *expected
ratio* has in brackets how much it depends on the prompts that it was learned from, where its record says so.
*tokens_per_cycle* and *accepted_length* are pooled over the prompts. *block* is anchor and drafts of a cycle; without
a number it is the drafter's own business.

| drafter | what it is here |
|---|---|
| `prompt_lookup`, `suffix`, `transformers` | as they are without options; `transformers` is its own prompt lookup |
| `diffusion` | the shipped view at the block that it was trained with |
| `smollm2-diffusion` | the same with `block: auto`, the recipe of this name |
| `smollm2-cascade` | `prompt_lookup` or else `diffusion`, the recipe of this name |

**Not here.** `draft_model` needs a smaller model of the same vocabulary, and SmolLM2-135M is the smallest of its
family. `dflash` and `eagle3` need a checkpoint that was trained for the target: no trained pair is known for
SmolLM2."""
Record = Mapping[str, Any]
Evidence = Mapping[str, Mapping[str, Record]]  # by machine and kind


def read(folder: Path) -> dict[str, dict[str, Record]]:
    """Return the records of a folder; raise ValueError for a file that is none of them."""
    records: dict[str, dict[str, Record]] = {machine: {} for machine in MACHINES}
    for file in sorted(folder.glob("*.json")):
        machine, _, kind = file.stem.partition("-")
        record = json.loads(file.read_text(encoding="utf-8"))
        if machine not in MACHINES or kind not in KINDS or record.get("format") != FORMAT:
            raise ValueError(f"{file.name} is not what `orthrus predict` wrote of a kind on a machine")
        if any(each["measured"] is None for each in record["predictions"]):
            raise ValueError(f"{file.name} has nothing that was measured")
        records[machine][kind] = record
    return {machine: {kind: known[kind] for kind in KINDS if kind in known} for machine, known in records.items()}


def page(folder: Path) -> str:
    """Return the page of a folder's records."""
    evidence = read(folder)
    parts = [HEAD, *overview(evidence)]
    for machine, title in MACHINES.items():
        parts += section(title, evidence[machine])
    if (record := folder.parent / "cascade-cpu.jsonl").is_file():
        parts += cascade(record)
    return "\n\n".join(parts) + "\n"


def cascade(record: Path) -> Iterator[str]:
    """Yield the section of a cascade beside its members, of what `compare_drafters.py` recorded."""
    sys.path.insert(0, str(Path(__file__).parent))
    from compare_drafters import summary

    head, *lines = map(json.loads, record.read_text(encoding="utf-8").splitlines())
    names = list(head["drafters"])
    figures = summary(lines, names)
    *members, last = names
    told = figures[last]
    differ = sum(figures[name]["answers_that_differ"] for name in names)
    yield "## A cascade beside its members"
    files = ", ".join(f"`{name}`" for name in head["prompts"])
    low, high = told["5th_percentile"], told["95th_percentile"]
    yield (
        f"{len(lines)} prompts of {files}, each answered by one drafter after the other, with"
        f" {head['overrides'][-1].rpartition('=')[2]} new tokens, float32, batch 1, on one thread of"
        f" {head['device']} (torch {head['torch']}; {head['processes at a time']} processes had a share of the prompts"
        f" each). Over the best of its members the cascade's tokens a second were {told['over_the_best_before']:.3f}"
        f" ({low:.3f} to {high:.3f}, the 5th and the 95th percentile where prompts are drawn again). {differ} answers"
        " differed."
    )
    yield table(
        ["drafter", "as a config has it", "tokens/s"],
        [
            [name, f"`{head['drafters'][name]}`", f"{figures[name]['tokens_per_second']:.2f}"]
            for name in [*members, last]
        ],
    )
    given = " ".join(f"--drafter '{name}={text}'" for name, text in head["drafters"].items())
    files = " ".join(f"--prompts {name}" for name in head["prompts"])
    options = f"--config {head['config']} {files} --tokens 24 --out cascade-cpu.jsonl"
    command = f"$ python docs/tools/compare_drafters.py {options} {given}"
    yield f"<!-- not run: it needs the prompt files -->\n```console\n{command}\n```"


def overview(evidence: Evidence) -> Iterator[str]:
    """Yield the table of who is fastest where."""
    yield "## The fastest"
    columns = [(machine, batch) for machine, known in evidence.items() for batch in batches(known)]
    if not columns:
        yield "Nothing was measured yet."
        return
    head = ["prompts", *(f"{MACHINES[machine]}, batch {batch}" for machine, batch in columns)]
    rows = [[kind, *(fastest(evidence[machine].get(kind), batch) for machine, batch in columns)] for kind in KINDS]
    yield table(head, rows)
    yield "\n".join(f"- {kind}: {what}" for kind, what in KINDS.items())


def batches(known: Mapping[str, Record]) -> list[int]:
    """Return the batches of some records, each once."""
    return sorted({each["batch"] for record in known.values() for each in record["predictions"]})


def fastest(record: Record | None, batch: int) -> str:
    """Return who is fastest and by how much; nothing where it was not measured."""
    rows = [] if record is None else of_batch(record, batch)
    if not rows:
        return ""
    best = max(rows, key=lambda each: each["measured"]["ratio"]["median"])
    return f"`{best['drafter']}` {ratio(best)}"


def of_batch(record: Record, batch: int) -> list[Record]:
    """Return what was measured at a batch."""
    return [each for each in record["predictions"] if each["batch"] == batch]


def section(title: str, known: Mapping[str, Record]) -> Iterator[str]:
    """Yield the paragraphs of a machine."""
    yield f"## {title}"
    if not known:
        yield "Not measured yet."
        return
    first = next(iter(known.values()))
    dates = sorted({record["date"][:10] for record in known.values()})
    machine = {key: value for key, value in first["environment"].items() if value is not None}
    facts = [f"{name} {value}" for name, value in {**machine, "dtype": first["settings"]["dtype"]}.items()]
    yield f"{' and '.join(dates)}: {'; '.join(facts)}."
    yield "\n".join(f"- {line}" for line in quality(list(known.values())))
    for kind, record in known.items():
        yield from kind_section(kind, title, record)


def kind_section(kind: str, title: str, record: Record) -> Iterator[str]:
    """Yield the paragraphs of a kind of prompts."""
    settings = record["settings"]
    yield f"### {kind.capitalize()}, {title[0].lower()}{title[1:]}"
    yield (
        f"Acceptance from {settings['learned_from']} prompts, speed of {settings['measured_on']} others, up to"
        f" {settings['max_new_tokens']} new tokens, {settings['rounds']} rounds."
    )
    yield f"<!-- not run: it needs a model -->\n```console\n$ {record['command']}\n```"
    yield table([*COLUMNS], [[cell(each) for cell in COLUMNS.values()] for each in record["predictions"]])


def quality(records: Sequence[Record]) -> Iterator[str]:
    """Yield sentences on how good the predictions were."""
    drafted = [each for record in records for each in record["predictions"] if each["drafter"] != "none"]
    every = [each for record in records for each in record["predictions"]]
    yield f"Expected tokens per second were off by {off([each['error'] for each in every])}."
    if drafted:
        yield f"Expected ratios were off by {off([each['ratio_error'] for each in drafted])}."
    right, told = order(records)
    yield f"Of {told} pairs of drafters that are apart in every round, {right} were expected in that order."


def off(errors: Sequence[float]) -> str:
    """Return the median of the errors and the largest, whatever their signs."""
    sizes = [abs(error) for error in errors]
    return f"{100 * statistics.median(sizes):.1f} % in the median, and by {100 * max(sizes):.1f} % at most"


def order(records: Sequence[Record]) -> tuple[int, int]:
    """Return how many pairs were expected in their order, of those whose rounds do not overlap."""
    right = told = 0
    for record in records:
        for pair in itertools.combinations(record["predictions"], 2):
            low, high = sorted(pair, key=lambda each: each["measured"]["ratio"]["median"])
            if low["batch"] == high["batch"] and low["measured"]["ratio"]["high"] < high["measured"]["ratio"]["low"]:
                told += 1
                right += low["expected"]["ratio"] < high["expected"]["ratio"]
    return right, told


def ratio(each: Record) -> str:
    """Return a measured ratio with its spread."""
    spread = each["measured"]["ratio"]
    if spread["low"] == spread["high"]:
        return f"{spread['median']:.2f}"
    return f"{spread['median']:.2f} ({spread['low']:.2f} to {spread['high']:.2f})"


def expected(each: Record) -> str:
    """Return an expected ratio, with where it lies in 8 of 10 draws of its prompts; older records do not tell."""
    low, high = each["expected"].get("ratio_range", (0, 0))
    around = "" if low == high else f" ({low:.2f} to {high:.2f})"
    return f"{each['expected']['ratio']:.2f}{around}"


def speed(each: Record) -> str:
    """Return measured tokens a second with their spread."""
    spread = each["measured"]["tokens_per_second"]
    return f"{spread['median']:,.1f} ({spread['low']:,.1f} to {spread['high']:,.1f})"


def number(value: float | None) -> str:
    """Return a measure that may not be known."""
    return "" if value is None else f"{value:.2f}"


COLUMNS = {
    "drafter": lambda each: f"`{each['drafter']}`",
    "block": lambda each: "" if each["block"] is None else str(each["block"]),
    "batch": lambda each: str(each["batch"]),
    "tokens/s": speed,
    "ratio": ratio,
    "expected ratio": expected,
    "off": lambda each: f"{100 * each['ratio_error']:+.0f} %",
    "tokens_per_cycle": lambda each: number(each["measured"]["tokens_per_cycle"]),
    "expected tokens_per_cycle": lambda each: number(each["expected"]["tokens_per_cycle"]),
    "accepted_length": lambda each: number(each["measured"]["accepted_length"]),
    "identical": lambda each: f"{100 * each['measured']['identical']:.0f} %",
}


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def main() -> None:
    """Write the page."""
    PAGE.write_text(page(FOLDER), encoding="utf-8")


if __name__ == "__main__":
    main()
