"""Times of cycles with a tree beside cycles with a chain: `python docs/tools/tree_cycle_cost.py`.

Each cycle drafts through copies of the model's own attention, and scores: a tree that a block makes, and a chain of as
many columns as `--chain` says. For each number of tokens before them it prints the median milliseconds of a cycle over
rounds in turns, the lowest and highest, and the ratio. Made for a GPU of its own; of Qwen3-8B's shape it takes about a
minute and 40 GB.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from pathlib import Path
from typing import Any

import torch
import typer

import orthrus
from orthrus import Decoder

RECIPE = Path(__file__).parents[2] / "configs" / "recipes" / "qwen3-8b-shape.yaml"
CYCLES = 16  # of a round


def cycle_milliseconds(decoder: Decoder, length: int) -> float:
    """Return how long a cycle takes after a prompt of this length, its prefill and first cycle apart."""
    target: Any = decoder.target
    wait = torch.cuda.synchronize if target.device.type == "cuda" else lambda: None
    _, steps = decoder.steps([random.Random(0).choices(range(target.vocabulary_size), k=length)], 1)
    for _ in range(2):
        next(steps)
    wait()
    begun = time.perf_counter()
    for _ in range(CYCLES):
        next(steps)
    wait()
    return 1000 * (time.perf_counter() - begun) / CYCLES


def main() -> None:
    """Measure and print a line for each length."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, default=RECIPE, help="a run file")
    parser.add_argument("--shape", help="random weights of this shape")
    parser.add_argument("--chain", type=int, default=32, help="columns of the block of a chain")
    parser.add_argument("--block", type=int, default=16, help="columns of the block that makes a tree")
    parser.add_argument("--tree", type=int, default=63, help="tokens of the tree, the anchor apart")
    parser.add_argument("--context", type=int, nargs="+", default=[512, 8192], help="tokens before the cycles")
    parser.add_argument("--rounds", type=int, default=7)
    given = parser.parse_args()
    source = [f"target.source=shape:{given.shape}"] if given.shape else []
    source += [f"stop.max_new_tokens={given.chain * (CYCLES + 8)}", "stop.past_end=true"]
    chain = f"drafter={{name: diffusion, view: copies, block: {given.chain}}}"
    tree = f"drafter={{name: diffusion, view: copies, block: {given.block}, tree: {given.tree}}}"
    decoders = [orthrus.load(given.config, dotted=[*source, drafter]) for drafter in (chain, tree)]
    for length in given.context:
        taken: list[list[float]] = [[], []]
        for number in range(given.rounds + 1):  # the first captures
            for times, decoder in zip(taken, decoders, strict=True):
                spent = cycle_milliseconds(decoder, length)
                if number:
                    times.append(spent)
        ratio = statistics.median(mine / theirs for theirs, mine in zip(*taken, strict=True))
        spans = [f"{statistics.median(times):.3f} ms ({min(times):.3f} to {max(times):.3f})" for times in taken]
        typer.echo(
            f"context {length}: chain of {given.chain} {spans[0]}, tree of {given.tree} {spans[1]}, {ratio:.3f}x"
        )


if __name__ == "__main__":
    main()
