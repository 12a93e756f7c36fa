"""Measures how many drafts of the diffusion view two verifiers accept: `python docs/examples/acceptance.py --write`.

The target is the tiny Orthrus checkpoint of the tests, so it runs anywhere, in a minute. Without --write it shows the
table; with it, what was found is kept beside the page, and the page's table is made from that.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOUND = ROOT / "docs" / "acceptance.json"
PAGE = ROOT / "docs" / "sampling.md"
BEGIN, END = "<!-- acceptance -->\n", "<!-- end -->\n"
TEMPERATURES = (0.25, 0.5, 0.75, 1.0)
VERIFIERS = ("coupled", "rejection")
PROMPTS = [[start + step * count for count in range(8)] for start in range(1, 13) for step in (2, 3, 5)]


def measure() -> list[dict[str, float]]:
    """Return the mean accepted drafts per cycle of both verifiers at each temperature, pooled over all prompts."""
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
    found = []
    for temperature in TEMPERATURES:
        row = {"temperature": temperature}
        for verifier in VERIFIERS:
            sampling = {"temperature": temperature}
            decoder = orthrus.load(recipe, target=target, verifier=verifier, sampling=sampling)
            results = decoder.generate(PROMPTS, batch=len(PROMPTS))
            row[verifier] = orthrus.summarize([one.measures for one in results]).accepted_length.pooled
        found.append(row)
    return found


def page_lines(found: list[dict[str, float]]) -> list[str]:
    """Return the lines of the table."""
    head = ["| temperature | `coupled` | `rejection` |", "|---|---|---|"]
    return head + [f"| {row['temperature']:g} | {row['coupled']:.2f} | {row['rejection']:.2f} |" for row in found]


def main() -> None:
    """Measure, and show or write the table."""
    found = measure()
    print("\n".join(page_lines(found)))
    if "--write" in sys.argv[1:]:
        FOUND.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        text = PAGE.read_text(encoding="utf-8")
        before, _, rest = text.partition(BEGIN)
        table = "\n".join(page_lines(found)) + "\n"
        PAGE.write_text(before + BEGIN + table + END + rest.partition(END)[2], encoding="utf-8")


if __name__ == "__main__":
    main()
