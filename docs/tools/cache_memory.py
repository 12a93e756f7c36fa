"""Print the table of docs/explanation/caches.md, bytes that caches hold for a batch; --write puts it into that page.

python docs/tools/cache_memory.py --write

Nothing is timed and no model is run: passes of keys and values in the shape of SmolLM2-135M are written in float32, a
prompt for each row, and the cache is asked for its bytes.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch

from orthrus import KVCache
from orthrus_caches.dynamic import DynamicCache
from orthrus_caches.offloaded import OffloadedCache
from orthrus_caches.paged import PagedCache
from orthrus_caches.quantized import QuantizedCache
from orthrus_caches.static import StaticCache

PAGE = Path(__file__).parents[1] / "explanation" / "caches.md"
MARK, END = "<!-- cache memory -->\n", "<!-- end -->\n"
LAYERS, HEADS, SIZE = 30, 3, 64  # of SmolLM2-135M
BATCHES: Mapping[str, Sequence[int]] = {
    "1 of 100": [100],
    "1 of 4,000": [4000],
    "64 of 100": [100] * 64,
    "63 of 100, 1 of 4,000": [4000, *[100] * 63],
    "32 of 100, 32 of 1,000": [*[1000] * 32, *[100] * 32],
}
CACHES: Mapping[str, Callable[[], KVCache]] = {
    "dynamic": DynamicCache,
    "static": StaticCache,
    "paged": PagedCache,
    "quantized": QuantizedCache,
    "offloaded": OffloadedCache,
}
GROUPS = {"quantized": 32}  # numbers that share a scale
HEADER = ("rows", "tokens", "bytes of the tokens", *(f"`{name}`" for name in CACHES))


def held(cache: KVCache, lengths: Sequence[int], numbers: int = 1) -> int:
    """Return the bytes that a cache holds for rows of these lengths, which are written one after the other.

    So many numbers of one head of one layer stand for all: they are alike.
    """
    cache.start(len(lengths), torch.device("cpu"))
    for row, length in enumerate(lengths):
        states = torch.zeros(1, 1, length, numbers)
        cache.place(torch.arange(length)[None], length, torch.tensor([row]))
        cache.update(states, states, 0)
    cache.keep(torch.tensor(lengths))
    return LAYERS * HEADS * SIZE // numbers * cache.bytes_in_use()


def table() -> list[str]:
    """Return the lines of the table, a batch a line."""
    rows = [HEADER, ("---",) * len(HEADER), *(row(name, lengths) for name, lengths in BATCHES.items())]
    return [f"| {' | '.join(cells)} |" for cells in rows]


def row(name: str, lengths: Sequence[int]) -> tuple[str, ...]:
    """Return one batch's cells."""
    tokens = sum(lengths)
    least = 2 * LAYERS * HEADS * SIZE * 4 * tokens
    return (
        name,
        f"{tokens:,}",
        f"{least:,}",
        *(f"{held(make(), lengths, GROUPS.get(cache, 1)):,}" for cache, make in CACHES.items()),
    )


def page(text: str) -> str:
    """Return the page with the table as it is today."""
    before, _, rest = text.partition(MARK)
    return before + MARK + "\n".join(table()) + "\n\n" + END + rest.partition(END)[2]


if __name__ == "__main__":
    if "--write" in sys.argv:
        PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    else:
        sys.stdout.write("\n".join(table()) + "\n")
