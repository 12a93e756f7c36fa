"""Writes the table of docs/guide/several-gpus.md of what docs/tools/parallel_costs.py measured.

    python docs/tools/parallel_table.py --write

Without `--write` it prints the page.
"""

from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parents[1]
RECORD = DOCS / "evidence" / "parallel-costs.json"
PAGE = DOCS / "guide" / "several-gpus.md"
BEGIN, END = "<!-- parallel costs -->\n", "<!-- end -->"
SUMS = ("passes-fused", "passes-joined", "passes-nccl")
COMPARED = ("verify pass of 1, ms", "verify pass of 32, ms", "cycle of the view, block 32, ms")


def page(text: str) -> str:
    """Return the page with the table of the record in its place."""
    record = json.loads(RECORD.read_text(encoding="utf-8"))
    before, _, rest = text.partition(BEGIN)
    return before + BEGIN + "\n" + "\n".join(lines(record)) + "\n\n" + END + rest.partition(END)[2]


def lines(record: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines of the section."""
    parts = record["parts"]
    yield filled(
        f"{record['date']}: {record['ranks']} {record['device']} of one host; torch {record['torch']}, transformers"
        f" {record['transformers']}, CUDA {record['cuda']}; bfloat16, batch 1, 512 tokens in the cache, random weights."
        f" Medians of rounds that take turns, the lowest and the highest; measured by `{record['command']}`."
    )
    yield ""
    yield "| Qwen3-8B's shape | sums | one GPU, ms | two, ms | two over one |"
    yield "|---|---|---|---|---|"
    for name in COMPARED:
        for part in SUMS:
            yield compared(name.removesuffix(", ms"), part.removeprefix("passes-"), parts[part][name])
    yield ""
    yield filled(shared(parts["passes-fused"]))
    yield ""
    yield filled(large(parts["large-nccl"]))


def filled(text: str) -> str:
    """Return a paragraph in lines."""
    return textwrap.fill(text, 120, break_long_words=False, break_on_hyphens=False)


def shared(values: Mapping[str, Any]) -> str:
    """Return what memory, texts and logits were; raise ValueError if texts were not those of one GPU."""
    texts = values["texts"]
    if not (texts["ranks are alike"] and texts["as alone"]):
        raise ValueError("texts differ: the page must say so")
    apart = texts["a pass of 32 and one of 1 differ by"]
    bits = (
        f"differed from those in a pass of 1 by up to {apart:.2g}" if apart else "were those in a pass of 1, to the bit"
    )
    return (
        f"Peak memory of a GPU is {values['memory ratio']:.2f} of the {values['memory alone, GiB']:.1f} GiB that one"
        f" alone takes. Texts were the same on both ranks and on one GPU; a token's logits in a pass of 32 {bits}."
    )


def compared(name: str, sums: str, times: Mapping[str, Any]) -> str:
    """Return a row of the table."""
    ratio = times["ratio"]
    spread = f"{ratio['median']:.2f} ({ratio['lowest']:.2f} to {ratio['highest']:.2f})"
    return f"| {name} | {sums} | {times['alone']['median']:.2f} | {times['shared']['median']:.2f} | {spread} |"


def large(values: Mapping[str, Any]) -> str:
    """Return what a model takes that no GPU of the host holds."""
    one, sixteen = values["verify pass of 1, ms"], values["verify pass of 16, ms"]
    return (
        f"Llama-3.1-70B's shape is loaded in {values['seconds to load']:.0f} s, and takes"
        f" {max(values['memory in use at most, GiB']):.1f} GiB of each GPU. With sums by nccl a pass of 1 takes"
        f" {one['median']:.1f} ms, {one['over the limit']:.2f} of what reading its weights takes at the bandwidth of a"
        f" copy ({values['copy bandwidth, GB/s']:,.0f} GB/s); one of 16 takes {sixteen['median']:.1f} ms,"
        f" {sixteen['over the limit']:.2f} of it, and a cycle of the view with blocks of 16"
        f" {values['cycle of the view, block 16, ms']['median']:.1f} ms."
    )


if __name__ == "__main__":
    made = page(PAGE.read_text(encoding="utf-8"))
    if "--write" in sys.argv:
        PAGE.write_text(made, encoding="utf-8")
    else:
        sys.stdout.write(made)
