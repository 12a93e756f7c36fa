"""Measure what a busy neighbour costs the engine native: another program that keeps one core, or all, busy.

python docs/tools/cpu_neighbour.py --out docs/evidence/cpu-engines/neighbour.json

Decoding with one thread and with one for each core takes turns: alone, beside a program that never waits on the last
core, and beside one on each.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch

import orthrus

RECIPE = "configs/recipes/smollm2-plain.yaml"
BUSY = "import os, sys\nos.sched_setaffinity(0, {int(sys.argv[1])})\nwhile True: pass"
PROMPT = [1000 + index * 7919 % 40000 for index in range(48)]


@contextmanager
def busy(cores: Sequence[int]) -> Iterator[None]:
    """Keep cores busy meanwhile, each with a process that is ended afterwards."""
    processes = [subprocess.Popen([sys.executable, "-c", BUSY, str(core)]) for core in cores]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def decoder_of(threads: int, tokens: int) -> orthrus.Decoder:
    """Return what decodes with so many threads."""
    stop = [f"stop.max_new_tokens={tokens}", f"stop.min_new_tokens={tokens}"]
    return orthrus.load(RECIPE, dotted=["target.dtype=gguf", f"target.threads={threads}", *stop])


def speed(decoder: orthrus.Decoder) -> float:
    """Return the tokens a second behind the first one."""
    [result] = decoder.generate([PROMPT], batch=1)
    return (len(result.token_ids) - 1) / (result.measures.seconds - (result.measures.ttft_seconds or 0.0))


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--tokens", type=int, default=48)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))
    torch.set_num_threads(1)
    decoders = {threads: decoder_of(threads, arguments.tokens) for threads in sorted({1, len(cores)})}
    for decoder in decoders.values():
        speed(decoder)
    measured: dict[str, dict[str, dict[str, float]]] = {}
    for name, kept in {"alone": [], "one neighbour": cores[-1:], "a neighbour on each core": cores}.items():
        with busy(kept):
            speeds = [
                {threads: speed(decoder) for threads, decoder in decoders.items()} for _ in range(arguments.rounds)
            ]
        measured[name] = {
            f"{threads} threads": spread([round_speeds[threads] for round_speeds in speeds]) for threads in decoders
        }
    text = json.dumps({"cores": len(cores), "tokens_per_second": measured}, indent=1)
    print(text)
    if arguments.out:
        arguments.out.write_text(text + "\n")


def spread(values: Sequence[float]) -> dict[str, float]:
    """Return the median, lowest and highest of some values."""
    digits = [round(value, 1) for value in (statistics.median(values), min(values), max(values))]
    return dict(zip(("median", "lowest", "highest"), digits, strict=True))


if __name__ == "__main__":
    main()
