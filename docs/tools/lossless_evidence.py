"""Puts what `orthrus verify --out` wrote into docs/explanation/lossless.md: `python docs/tools/lossless_evidence.py`.

docs/evidence/lossless/ has the records, each a section of the page, in the order of their names; the plots of those in
16 bits go to docs/results/figures/lossless/. No figure is written by hand.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from orthrus.verification.certificate import compared

DOCS = Path(__file__).parents[1]
PAGE, RECORDS, FIGURES = "explanation/lossless.md", "evidence/lossless", "results/figures/lossless"
BEGIN, END = "<!-- lossless evidence -->\n", "<!-- end -->\n"


def control(results: Mapping[str, Any]) -> str:
    """Tell a control's share and its batch, which records of before have not."""
    return f"{100 * results['rate']:.1f} % (batch {results.get('batch', min(8, results['prompts']))})"


def rule(run: Mapping[str, Any]) -> str:
    """Tell what the control says of how often answers differ, worked out again from the counts."""
    there = run["control"]
    return compared(run["prompts"] - run["identical"], run["prompts"], there["divergent"], there["prompts"])


COLUMNS = {
    "config": lambda run: run["label"],
    "batch": lambda run: f"{run['batch']}",
    "tokens": lambda run: f"{run['tokens']:,}",
    "identical": lambda run: f"{run['identical']} of {run['prompts']}",
    "ties": lambda run: f"{run['ties']}",
    "certified": lambda run: f"{run['certified']} of {run['prompts']}",
    "largest gap": lambda run: f"{run['largest_gap']:.3g}",
    "bound": lambda run: f"{run['bound']:.3g}",
    "roundoffs": lambda run: "" if run["roundoffs"] is None else f"{run['roundoffs']:.1f}",
    "diverges": lambda run: f"{100 * run['divergence_rate']:.1f} %",
    "control": lambda run: "none needed" if run["control"] is None else control(run["control"]),
    "rule (c)": lambda run: "" if run["control"] is None else rule(run),
    "result": lambda run: "certified" if run["passed"] else "**not certified**",
}


def read(docs: Path) -> dict[str, dict[str, Any]]:
    """Return the records by their names."""
    files = sorted((docs / RECORDS).glob("*.json"))
    return {file.stem: json.loads(file.read_text(encoding="utf-8")) for file in files}


def page(docs: Path) -> str:
    """Return the page with the records in it."""
    before, marked, rest = (docs / PAGE).read_text(encoding="utf-8").partition(BEGIN)
    assert marked, f"{PAGE} has no place for the records"
    parts = [part for name, record in read(docs).items() for part in section(name, record)]
    return before + BEGIN + "".join(f"\n{part}\n" for part in parts) + "\n" + END + rest.partition(END)[2]


def section(name: str, record: Mapping[str, Any]) -> Iterator[str]:
    """Yield the paragraphs of a record."""
    runs, machine, settings = record["runs"], record["environment"], record["settings"]
    dtypes = " and ".join(dict.fromkeys(run["dtype"] for run in runs))
    temperatures = dict.fromkeys(run["temperature"] for run in runs)
    ways = " and ".join(
        "greedy" if temperature == 0 else f"coupled at temperature {temperature:g}" for temperature in temperatures
    )
    yield f"### {dtypes}, {ways}"
    told = {"prompts": settings["prompts"], "new tokens at most": settings["max_new_tokens"], **machine}
    facts = [f"{key} {value}".replace("_", " ") for key, value in told.items()]
    yield f"{record['date']}: {'; '.join(facts)}."
    yield f"<!-- not run: it needs a model -->\n```console\n$ {record['command']}\n```"
    lines = [[*COLUMNS], ["---"] * len(COLUMNS), *([cell(run) for cell in COLUMNS.values()] for run in runs)]
    yield "\n".join(f"| {' | '.join(line)} |" for line in lines)
    if drawn(record):
        yield bound_sentence(runs)
        yield f"![tokens by gap, a line for each run; the bound dotted](../{FIGURES}/{name}.svg)"


def bound_sentence(runs: list[dict[str, Any]]) -> str:
    """Say what the bound was made of."""
    widest = max(runs, key=lambda run: run["bound"])
    seen = max(run["logit_error"] for run in runs)
    return (
        f"E, the largest error of a contender's logit, was {widest['error']:.3g}, which is {widest['roundoffs']:.1f}"
        " unit roundoffs of the largest logit.\nThe logits that the runs themselves saw, of the tokens that they"
        f" produced, were off by {seen:.3g} at most."
    )


def drawn(record: Mapping[str, Any]) -> bool:
    """Tell whether a record has gaps to draw."""
    return any(run["bound"] > 0 for run in record["runs"])


def plots(docs: Path) -> dict[str, str]:
    """Return the plots by the names of their files."""
    from orthrus.verification.gap_plot import draw_gaps

    return {f"{name}.svg": draw_gaps(record["runs"]) for name, record in read(docs).items() if drawn(record)}


def main() -> None:
    """Write the page and its plots."""
    (DOCS / PAGE).write_text(page(DOCS), encoding="utf-8")
    (DOCS / FIGURES).mkdir(parents=True, exist_ok=True)
    for name, svg in plots(DOCS).items():
        (DOCS / FIGURES / name).write_text(svg, encoding="utf-8")


if __name__ == "__main__":
    main()
