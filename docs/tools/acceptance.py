"""Measures how many drafts of the diffusion view two verifiers accept: `python docs/tools/acceptance.py --write`.

The target is the tiny Orthrus checkpoint of the tests, so it runs anywhere, in two minutes on one core. Without --write
it shows the table; with it, what was found is kept beside the page, and the page's table is made from that.
"""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
FOUND = ROOT / "docs" / "evidence" / "acceptance.json"
PAGE = ROOT / "docs" / "reference" / "sampling.md"
BEGIN, END = "<!-- acceptance -->\n", "<!-- end -->\n"
TEMPERATURES = (0.25, 0.5, 0.75, 1.0)
VERIFIERS = ("coupled", "rejection")
SEEDS = range(8)
Found = list[dict[str, Any]]
PROMPTS = [[start + step * count for count in range(8)] for start in range(1, 13) for step in (2, 3, 5)]


def measure() -> Found:
    """Return the mean accepted drafts per cycle of both verifiers at each temperature, pooled over all prompts.

    One value for each seed.
    """
    import orthrus

    source = {"name": "transformers", "source": str(ROOT / "tests/data/tiny-orthrus-qwen3"), "device": "cpu"}
    recipe = {
        "target": {**source, "dtype": "float32"},
        "attention": {"name": "sdpa"},
        "cache": {"name": "dynamic"},
        "drafter": {"name": "diffusion"},
        "stop": {"max_new_tokens": 100},
    }
    target = orthrus.load(recipe).target

    def accepted(temperature: float, verifier: str, seed: int) -> float | None:
        sampling = {"temperature": temperature}
        decoder = orthrus.load(recipe, target=target, verifier=verifier, sampling=sampling, seed=seed)
        results = decoder.generate(PROMPTS, batch=len(PROMPTS))
        return orthrus.summarize([result.measures for result in results]).accepted_length.pooled

    return [
        {
            "temperature": temperature,
            **{name: [accepted(temperature, name, seed) for seed in SEEDS] for name in VERIFIERS},
        }
        for temperature in TEMPERATURES
    ]


def page_lines(measured: Found) -> list[str]:
    """Return the lines of the table: of each verifier the mean of the seeds, and its standard error."""
    head = ["| temperature | `coupled` | `rejection` |", "|---|---|---|"]
    return head + [
        f"| {row['temperature']:g} | {_mean(row['coupled'])} | {_mean(row['rejection'])} |" for row in measured
    ]


def _mean(values: list[float]) -> str:
    error = statistics.stdev(values) / len(values) ** 0.5
    return f"{statistics.fmean(values):.3f} ± {error:.3f}"


def main() -> None:
    """Measure, and show or write the table."""
    measured = measure()
    print("\n".join(page_lines(measured)))
    if "--write" in sys.argv[1:]:
        FOUND.write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")
        text = PAGE.read_text(encoding="utf-8")
        before, _, rest = text.partition(BEGIN)
        table = "\n".join(page_lines(measured)) + "\n"
        PAGE.write_text(before + BEGIN + table + END + rest.partition(END)[2], encoding="utf-8")


if __name__ == "__main__":
    main()
