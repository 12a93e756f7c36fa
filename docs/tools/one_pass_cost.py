"""Times of one-pass cycles beside passes that score chains: `python docs/tools/one_pass_cost.py --shape qwen3-8b`.

For each number of tokens before the pass it prints the median milliseconds, and the lowest and highest, of a pass that
scores as many rows as `--rows` says, and of one-pass cycles with each of `--drafts`: the scored draft, and a block for
each length that may be accepted, through copies of the model's own attention. Passes are taken in turns. The ratios are
to the first. On a GPU of its own the default takes about 90 seconds, most of it to make the weights.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import typer

import orthrus
from orthrus import Decoder, Draft
from orthrus.one_pass import AcceptableBlocks

RECIPE = Path(__file__).parents[2] / "configs" / "recipes" / "qwen3-8b-shape.yaml"
VIEW = "copies"


def milliseconds(work: Callable[[], object], device: torch.device) -> float:
    """Return how long work takes that begins when the device has nothing else to do."""
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    wait()
    begun = time.perf_counter()
    work()
    wait()
    return 1000 * (time.perf_counter() - begun)


def passes(decoder: Decoder, rows: int, drafts: list[int], length: int) -> Mapping[str, Callable[[], object]]:
    """Return the passes after a prompt of this length by what they are; each can be run again and again."""
    target: Any = decoder.target
    chooser = random.Random(0)
    context, steps = decoder.steps([chooser.choices(range(target.vocabulary_size), k=length)], 1)
    for _ in range(2):  # the prefill, and a cycle
        next(steps)

    def draft(tokens: int) -> Draft:
        drafted = torch.ones(1, tokens, dtype=torch.int64, device=target.device)
        return Draft(drafted, torch.full((1,), tokens, device=target.device))

    def one_pass(tokens: int) -> Callable[[], object]:
        scored, blocks = draft(tokens), AcceptableBlocks(VIEW, 0, tokens, tokens + 2)
        return lambda: (target.score_with_blocks(context, scored, blocks), steps)  # a decoding that goes on is held

    chain = draft(rows - 1)
    named: dict[str, Callable[[], object]] = {f"score {rows} rows": lambda: target.score(context, chain)}
    for tokens in drafts:
        named[f"one pass, {tokens} drafts, {(tokens + 1) * (tokens + 3)} rows"] = one_pass(tokens)
    return named


def main() -> None:
    """Measure and print a line for each pass."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, default=RECIPE, help="a run file")
    parser.add_argument("--shape", help="random weights of this shape")
    parser.add_argument("--rows", type=int, default=32, help="anchor and drafts of the pass that scores alone")
    parser.add_argument("--drafts", type=int, nargs="+", default=[5, 7], help="of one-pass cycles")
    parser.add_argument("--context", type=int, nargs="+", default=[512, 8192], help="tokens before the pass")
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="overrides of the config")
    given = parser.parse_args()
    source = [f"target.source=shape:{given.shape}"] if given.shape else []
    dotted = [*source, "drafter.name=none", f"stop.max_new_tokens={3 * given.rows}", *given.set]
    decoder = orthrus.load(given.config, dotted=dotted)
    target: Any = decoder.target
    target.attach_view(VIEW)
    typer.echo(f"engine: {dict(target.report())}")
    for length in given.context:
        named = passes(decoder, given.rows, given.drafts, length)
        for work in [*named.values()] * 3:  # the first capture, or compile
            work()
        times: dict[str, list[float]] = {name: [] for name in named}
        for _ in range(given.repeats):
            for name, work in named.items():
                times[name].append(milliseconds(work, target.device))
        first = statistics.median(next(iter(times.values())))
        for name, taken in times.items():
            median = statistics.median(taken)
            ratio = f"{median / first:.2f}x"
            typer.echo(f"context {length}: {name}: {median:.3f} ms ({min(taken):.3f} to {max(taken):.3f}), {ratio}")


if __name__ == "__main__":
    main()
