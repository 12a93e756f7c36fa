r"""Where the time of a cycle goes on a GPU: in captured passes, between them, and in the host's waiting.

    python docs/tools/cycle_breakdown.py --config configs/recipes/smollm2-diffusion-gpu.yaml --prompts mt_bench.jsonl \
        --drafter 'plain={name: none}' --drafter 'tree={name: diffusion, block: 16, tree: 31}' --out RECORD.json

Each drafter answers the prompts, `--batch` at a time, first to capture and tune, then without and with events around
the replays of captured passes. Of each captured pass that comes often: how many times a cycle, and its median
microseconds on the device; of each pair that follow one another: what is between them. A host that hardly waits for the
device is what a cycle waits for. Events cost a cycle some microseconds, so its whole time is of the run without them.
"""

from __future__ import annotations

import json
import statistics
import string
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

import orthrus
from orthrus import Decoder, read_prompts
from orthrus.machine import versions

OFTEN = 0.05  # times a cycle


@dataclass
class Trace:
    """The replays of a run with the moments before and after each, and how long the host waited, in seconds."""

    replays: list[tuple[int, Any, Any]] = field(default_factory=list)
    waited: float = 0.0


@contextmanager
def traced(events: bool) -> Iterator[Trace]:
    """Note replays, if `events`, and waiting meanwhile."""
    trace, replay, wait = Trace(), torch.cuda.CUDAGraph.replay, torch.cuda.Event.synchronize

    def noted_replay(graph: Any) -> None:
        before, after = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        before.record()
        replay(graph)
        after.record()
        trace.replays.append((id(graph), before, after))

    def noted_wait(event: Any) -> None:
        begun = time.perf_counter()
        wait(event)
        trace.waited += time.perf_counter() - begun

    torch.cuda.Event.synchronize = noted_wait
    if events:
        torch.cuda.CUDAGraph.replay = noted_replay
    try:
        yield trace
    finally:
        torch.cuda.CUDAGraph.replay, torch.cuda.Event.synchronize = replay, wait


def answered(decoder: Decoder, prompts: list[str], batch: int) -> tuple[float, int, int]:
    """Return the seconds of the answers, their cycles, those of a batch counted once, and tokens."""
    torch.cuda.synchronize()
    begun = time.perf_counter()
    batches = [decoder.generate(prompts[at : at + batch], batch=batch) for at in range(0, len(prompts), batch)]
    torch.cuda.synchronize()
    seconds = time.perf_counter() - begun
    cycles = sum(max(result.measures.cycles for result in results) for results in batches)
    return seconds, cycles, sum(len(result.token_ids) for results in batches for result in results)


def often(times: dict[Any, list[float]], cycles: int, name: Callable[[Any], str]) -> list[dict[str, Any]]:
    """Return what came often, the most frequent first."""
    ranked = sorted(times.items(), key=lambda pair: -len(pair[1]))
    rows = [
        {"what": name(key), "times": round(len(each) / cycles, 2), "microseconds": statistics.median(each)}
        for key, each in ranked
    ]
    return [row for row in rows if row["times"] >= OFTEN]


def breakdown(decoder: Decoder, prompts: list[str], batch: int) -> dict[str, Any]:
    """Return where the time of a drafter's cycles goes."""
    for _ in range(2):
        answered(decoder, prompts, batch)
    with traced(events=False) as untouched:
        seconds, cycles, tokens = answered(decoder, prompts, batch)
    with traced(events=True) as trace:
        _, noted, _ = answered(decoder, prompts, batch)
    passes, gaps = defaultdict(list), defaultdict(list)
    for graph, before, after in trace.replays:
        passes[graph].append(1000 * before.elapsed_time(after))
    for (first, _, end), (second, start, _) in zip(trace.replays, trace.replays[1:], strict=False):
        gaps[first, second].append(1000 * end.elapsed_time(start))
    ranked = sorted(passes, key=lambda graph: -len(passes[graph]))
    letters = dict(zip(ranked, string.ascii_uppercase, strict=False))  # the most frequent is A

    def named(*graphs: int) -> str:
        return "".join(letters.get(graph, "?") for graph in graphs)

    return {
        "microseconds_per_cycle": 1e6 * seconds / cycles,
        "tokens_per_cycle": tokens / cycles,
        "host_waits_microseconds": 1e6 * untouched.waited / cycles,
        "passes": often(passes, noted, named),
        "between": often(gaps, noted, lambda pair: named(*pair)),
    }


def main(
    config: Annotated[Path, typer.Option(help="a run file of a GPU")],
    prompts: Annotated[Path, typer.Option(help="a JSONL file of prompts")],
    drafter: Annotated[list[str], typer.Option(help="NAME=DRAFTER")],
    out: Annotated[Path, typer.Option(help="the record")],
    limit: Annotated[int, typer.Option(help="prompts")] = 4,
    tokens: Annotated[int, typer.Option(help="the most of each answer")] = 192,
    batch: Annotated[int, typer.Option(help="prompts answered at a time")] = 1,
) -> None:
    """Measure, print and write the record."""
    texts = [record.text for record in read_prompts(prompts, limit)]
    rows = {}
    for name, _, options in (text.partition("=") for text in drafter):
        decoder = orthrus.load(config, dotted=[f"stop.max_new_tokens={tokens}", f"drafter={options}"])
        rows[name] = breakdown(decoder, texts, batch)
        typer.echo(f"{name}: {json.dumps(rows[name])}")
    facts = {
        "config": str(config),
        "limit": limit,
        "max_new_tokens": tokens,
        "batch": batch,
        **versions(decoder.target.device),
    }
    out.write_text(json.dumps({**facts, "drafters": rows}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
