"""Measure what caches cost: milliseconds a pass, and memory on the device, at some lengths of text.

python docs/tools/cache_speeds.py --config configs/recipes/smollm2-plain.yaml --contexts 256,1024 --out FILE.json
python docs/tools/cache_speeds.py --write

A cache is measured by cycles of plain decoding after a prompt of so many tokens in each row: the median of rounds that
take turns, engine and attention as given, the same for all. --write puts the tables of all files of
docs/evidence/cache-speeds into docs/explanation/caches.md. The last arguments override the config, as everywhere.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parents[1]
FOLDER = DOCS / "evidence" / "cache-speeds"
PAGE = DOCS / "explanation" / "caches.md"
MARK, END = "<!-- cache speeds -->\n", "<!-- end speeds -->\n"
CACHES: Mapping[str, Sequence[str]] = {
    "dynamic": ["cache.name=dynamic"],
    "static": ["cache.name=static"],
    "paged": ["cache.name=paged"],
    "quantized": ["cache.name=quantized"],
    "quantized, fp8": ["cache.name=quantized", "cache.codes=fp8"],
    "offloaded": ["cache.name=offloaded"],
}


def measure(config: str, overrides: Sequence[str], contexts: Sequence[int], batch: int, rounds: int) -> dict[str, Any]:
    """Return the measures of all caches, and of what and where."""
    import torch

    import orthrus
    from orthrus.machine import versions

    engine = [] if any(item.startswith("target.engine=") for item in overrides) else ["target.engine=fused"]
    rows = []
    for name, chosen in CACHES.items():
        decoder = orthrus.load(config, dotted=[*engine, *overrides, *chosen, "drafter.name=none"])
        for context in contexts:
            print(f"{name}, {context} tokens", file=sys.stderr)
            rows.append({"cache": name, "context": context, **_measured(decoder, context, batch, rounds)})
        report = decoder.target.report()
        device, dtype = decoder.target.device, str(decoder.target.dtype).removeprefix("torch.")
        del decoder
        gc.collect()
        torch.cuda.empty_cache()
    return {
        "config": Path(config).stem,
        "overrides": [*engine, *overrides],
        "engine": report.get("layers", report.get("engine")),
        "batch": batch,
        "rounds": rounds,
        "dtype": dtype,
        "machine": versions(device),
        "rows": rows,
    }


def _measured(decoder: Any, context: int, batch: int, rounds: int) -> dict[str, Any]:
    """Return the median milliseconds of a cycle, its range, and the bytes of the cache and of the device."""
    import torch

    from orthrus.machine import synchronize

    prompts = [[1000 + (row + index) * 7919 % 40_000 for index in range(context)] for row in range(batch)]
    cuda = decoder.target.device.type == "cuda"
    before = torch.cuda.memory_allocated() if cuda else 0
    medians = []
    for _ in range(rounds + 1):
        taken, last = [], time.perf_counter()
        if cuda:
            torch.cuda.reset_peak_memory_stats()
        for step in decoder.steps(prompts, batch)[1]:
            synchronize(decoder.target.device)
            now = time.perf_counter()
            if not step.prefilled:
                taken.append(1000 * (now - last))
            last = now
        medians.append(statistics.median(taken))
    kept = medians[1:]  # the first round warms up
    cache = decoder.target.cache
    return {
        "milliseconds": statistics.median(kept),
        "low": min(kept),
        "high": max(kept),
        "bytes_in_use": cache.bytes_in_use(),
        "device_bytes": torch.cuda.max_memory_allocated() - before if cuda else None,
    }


def table(record: Mapping[str, Any]) -> list[str]:
    """Return the lines of a record's table."""
    contexts = list(dict.fromkeys(row["context"] for row in record["rows"]))
    cuda = any(row["device_bytes"] is not None for row in record["rows"])
    header = ["cache"]
    for context in contexts:
        header += [f"{context:,} tokens, ms a pass", "bytes in use", *(["of the device"] if cuda else [])]
    lines = [header, ["---"] * len(header)]
    for name in dict.fromkeys(row["cache"] for row in record["rows"]):
        cells = [f"`{name.partition(',')[0]}`{name.partition(',')[1]}{name.partition(',')[2]}"]
        for row in [row for row in record["rows"] if row["cache"] == name]:
            cells += [f"{row['milliseconds']:.2f}", _megabytes(row["bytes_in_use"])]
            cells += [_megabytes(row["device_bytes"])] if cuda else []
        lines.append(cells)
    return [f"| {' | '.join(cells)} |" for cells in lines]


def _megabytes(size: int) -> str:
    return f"{size / 2**20:,.0f} MiB"


def said(record: Mapping[str, Any]) -> str:
    """Return the sentence above a record's table."""
    machine = record["machine"]
    rows = "1 row" if record["batch"] == 1 else f"{record['batch']} rows"
    words = " ".join([f"--config {record['config']}", *record["overrides"]])
    return (
        f"{machine['device']}, torch {machine['torch']}, {machine['threads']} threads, {record['dtype']}, {rows}, plain"
        f" decoding, medians of {record['rounds']} rounds (`docs/tools/cache_speeds.py {words}`):"
    )


def page(text: str) -> str:
    """Return the page with the tables as they are today."""
    before, _, rest = text.partition(MARK)
    records = [json.loads(file.read_text(encoding="utf-8")) for file in sorted(FOLDER.glob("*.json"))]
    parts = ["\n".join([said(record), "", *table(record), ""]) for record in records]
    return before + MARK + "\n".join(parts) + "\n" + END + rest.partition(END)[2]


def main() -> None:
    """Measure, or write the page."""
    reader = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    reader.add_argument("--config")
    reader.add_argument("--contexts", default="1024")
    reader.add_argument("--batch", type=int, default=1)
    reader.add_argument("--rounds", type=int, default=3)
    reader.add_argument("--out", type=Path)
    reader.add_argument("--write", action="store_true")
    reader.add_argument("overrides", nargs="*")
    asked = reader.parse_args()
    if asked.write:
        PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
        return
    contexts = [int(context) for context in asked.contexts.split(",")]
    record = measure(asked.config, asked.overrides, contexts, asked.batch, asked.rounds)
    asked.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print("\n".join([said(record), "", *table(record)]))


if __name__ == "__main__":
    main()
