r"""Measure on a GPU what equal bits cost: scored passes and prefills as they are, beside what is laid out for speed.

python docs/tools/steady_costs.py --out docs/evidence/steady-costs.json
python docs/tools/steady_table.py --write  # puts that into docs/explanation/lossless.md

Layers of Qwen3-1.7B's and 8B's shapes with random weights, and as large a part of the output head. Each pass is a CUDA
graph of its own, and the two ways of it are replayed in turns. `without`: products of more than 32 tokens by cuBLAS,
keys split as many times as fills the GPU. `steady` is what passes are; for prefills, with `target.steady_prefills`, and
`attention alone` without. Each ratio is the median of those of the turns, with the lowest and highest quarter's ends.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import shlex
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import torch
from kernel_compilers import compile_first
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM

from orthrus.kernels import skinny_linear
from orthrus.paths import Paths
from orthrus.terminal import echo
from orthrus_attention import split_kv
from orthrus_caches.static import StaticCache
from orthrus_transformers.engines.forward_pass import ForwardPass
from orthrus_transformers.loading.sources import SHAPES
from orthrus_transformers.target import TransformersTarget

LAYERS = {"qwen3-1.7b": 14, "qwen3-8b": 9}  # of 28 and 36
CONTEXTS, ROWS, PROMPTS, CHUNK = (500, 8000), (1, 16, 32, 64, 65), (512, 2048), 512
TREES = 64, 65  # tokens, the anchor among them
COMPILERS = 14
MOST_APART = 0.25  # of the largest logit, between ways to round in bfloat16
WAYS = ("without", "attention alone", "steady")


@dataclass(frozen=True)
class Case:
    """A pass of a shape: over so many tokens after a context, or over a prompt."""

    shape: str
    kind: str  # chain, tree or prefill
    tokens: int
    context: int = 0

    @property
    def ways(self) -> tuple[str, ...]:
        """The ways to run it: a scored pass is steady as a whole, or not."""
        return WAYS if self.kind == "prefill" else (WAYS[0], WAYS[2])


def cases(shape: str) -> list[Case]:
    """Return all passes of a shape."""
    scored = [Case(shape, "chain", rows, context) for context in CONTEXTS for rows in ROWS]
    trees = [Case(shape, "tree", tokens, context) for context in CONTEXTS for tokens in TREES]
    return [*scored, *trees, *(Case(shape, "prefill", tokens) for tokens in PROMPTS)]


def target_of(shape: str, layers: int) -> TransformersTarget:
    """Return a target of random weights: some layers, and words in proportion to those of `LAYERS`."""
    config = AutoConfig.from_pretrained(SHAPES / shape, trust_remote_code=False)
    share = LAYERS[shape] / config.num_hidden_layers
    config.num_hidden_layers, config.vocab_size = layers, int(config.vocab_size * share) // 128 * 128
    torch.manual_seed(0)
    with torch.device("cuda"):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16, trust_remote_code=False).eval()
    target = TransformersTarget(model, None, StaticCache(), split_kv.SplitAttention(), engine="fused")
    target.cache.start(1, torch.device("cuda"))
    target.cache.place(
        torch.zeros(1, 1, dtype=torch.int64, device="cuda"), max(CONTEXTS) + max(TREES)
    )  # as large as ever
    return target


@contextlib.contextmanager
def way(name: str, target: TransformersTarget) -> Iterator[None]:
    """Let passes be laid out in one of the ways, meanwhile."""
    before = skinny_linear.MOST_WIDE_TOKENS, split_kv.is_steady
    state: Any = target._state
    if name == "without":
        skinny_linear.MOST_WIDE_TOKENS = skinny_linear.MOST_TOKENS
        split_kv.is_steady = lambda *given: False
    state.steady_prefills = name == "steady"
    try:
        yield
    finally:
        skinny_linear.MOST_WIDE_TOKENS, split_kv.is_steady = before
        state.steady_prefills = False


def passes(case: Case) -> list[ForwardPass]:
    """Return the passes of a case: a prompt has one for each chunk."""
    generator = torch.Generator("cuda").manual_seed(case.tokens)
    tokens = torch.randint(1000, (1, case.tokens), generator=generator, device="cuda")
    if case.kind == "prefill":
        nothing = torch.zeros(1, dtype=torch.int64, device="cuda")
        return [
            ForwardPass(
                part, nothing, start + part.shape[1], 1, slots=torch.arange(start, start + part.shape[1])[None].cuda()
            )
            for start, part in zip(range(0, case.tokens, CHUNK), tokens.split(CHUNK, 1), strict=True)
        ]
    committed, extent = torch.tensor([case.context], device="cuda"), case.context + case.tokens
    if case.kind == "chain":
        return [ForwardPass(tokens, committed, extent, case.tokens)]
    chooser = random.Random(0)
    parents = [
        index - 1 if chooser.random() < 0.5 else chooser.randrange(-1, index) for index in range(case.tokens - 1)
    ]
    paths = Paths(torch.tensor([parents], device="cuda"))
    return [ForwardPass(tokens, committed, extent, case.tokens, kind="tree", tree=paths)]


@torch.no_grad()
def run(target: TransformersTarget, case: Case) -> Tensor:
    """Run a case; return the logits of its last pass."""
    return [target.engine.run(forward_pass) for forward_pass in passes(case)][-1]


@dataclass(frozen=True)
class Captured:
    """A captured case, with the passes whose tensors its graph reads, and the logits that a replay leaves."""

    graph: torch.cuda.CUDAGraph
    passes: list[ForwardPass]
    logits: Tensor


@torch.no_grad()
def captured(target: TransformersTarget, case: Case, name: str) -> Captured:
    """Capture a case in one of the ways."""
    todo = passes(case)
    stream, graph = torch.cuda.Stream(), torch.cuda.CUDAGraph()
    with way(name, target):
        with torch.cuda.stream(stream):
            for _ in range(2):
                for forward_pass in todo:
                    target.engine.run(forward_pass)
        torch.cuda.synchronize()
        with torch.cuda.graph(graph, stream=stream):
            logits = [target.engine.run(forward_pass) for forward_pass in todo][-1]
    return Captured(graph, todo, logits)


def milliseconds(work: Callable[[], None]) -> float:
    """Return what a replay takes."""
    first, last = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    first.record()
    work()
    last.record()
    torch.cuda.synchronize()
    return first.elapsed_time(last)


def measured(target: TransformersTarget, case: Case, turns: int) -> dict[str, Any]:
    """Return the times of a case by each way, in turns, and whether bits are equal where they should be."""
    all_captured = {name: captured(target, case, name) for name in case.ways}
    times: dict[str, list[float]] = {name: [] for name in case.ways}
    for turn in range(turns + 2):  # the first are not counted
        for name in case.ways if turn % 2 else case.ways[::-1]:
            taken = milliseconds(all_captured[name].graph.replay)
            if turn > 1:
                times[name].append(taken)
    ratios = {
        name: [one / other for one, other in zip(times[name], times["without"], strict=True)] for name in case.ways[1:]
    }
    return {
        **vars(case),
        "milliseconds": {name: statistics.median(taken) for name, taken in times.items()},
        "ratios": {name: statistics.quantiles(each, n=4) for name, each in ratios.items()},
        "equal": {name: equal_bits(target, case, name) for name in (WAYS[0], WAYS[2])},
        "apart": apart(target, case, all_captured),
    }


def apart(target: TransformersTarget, case: Case, all_captured: Mapping[str, Captured]) -> float:
    """Return how far replayed logits are from those of a steady pass that is run now, over the largest of those."""
    with way(WAYS[2], target):
        wanted = run(target, case).float()
    furthest = max(float((each.logits.float() - wanted).abs().max()) for each in all_captured.values())
    return furthest / float(wanted.abs().max())


def equal_bits(target: TransformersTarget, case: Case, name: str) -> bool | None:
    """Tell whether some tokens have the logits that they have alone; None: of a tree, which the tests look at."""
    if case.kind == "tree":
        return None
    with way(name, target), torch.no_grad():
        together, todo = run(target, case).clone(), passes(case)
        tokens = torch.cat([forward_pass.token_ids for forward_pass in todo], 1)
        columns = [tokens.shape[1] - 1] if case.kind == "prefill" else sorted({0, case.tokens // 2, case.tokens - 1})
        for column in columns:
            before = torch.tensor([case.context + column], device="cuda")
            alone = target.engine.run(ForwardPass(tokens[:, column : column + 1], before, int(before) + 1, 1))
            if not torch.equal(alone[:, 0], together[:, column if case.kind == "chain" else 0]):
                return False
    return True


def compile_share(share: int) -> None:
    """Compile what a share of the cases takes, which others then find on the disk."""
    todo = [(case, name) for shape in LAYERS for case in cases(shape) for name in case.ways]
    for shape in LAYERS:
        mine = [pair for index, pair in enumerate(todo) if index % COMPILERS == share and pair[0].shape == shape]
        if mine:
            target = target_of(shape, layers=1)
            for case, name in mine:
                with way(name, target):
                    run(target, case)
            del target
            torch.cuda.empty_cache()


def told(result: dict[str, Any]) -> str:
    """Return a line about a result."""
    kind, tokens, context = result["kind"], result["tokens"], result["context"]
    what = f"prefill {tokens}" if kind == "prefill" else f"{kind} of {tokens} after {context}"
    ratios = "; ".join(
        f"{name} {middle:.3f} ({low:.3f} to {high:.3f})" for name, (low, middle, high) in result["ratios"].items()
    )
    times = ", ".join(f"{name} {taken:.3f}" for name, taken in result["milliseconds"].items())
    bits = f"bits {result['equal']}, apart {result['apart']:.3f}"
    return f"{result['shape']:11} {what:24} {ratios}   [ms: {times}; {bits}]"


def facts() -> dict[str, Any]:
    """Return what was measured, and on what."""
    return {
        "date": date.today().isoformat(),
        "device": torch.cuda.get_device_name(),
        "torch": torch.__version__,
        "dtype": "bfloat16",
        "batch": 1,
        "command": "python docs/tools/steady_costs.py " + shlex.join(sys.argv[1:]),
    }


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--turns", type=int, default=21)
    parser.add_argument("--shape", nargs="+", default=list(LAYERS), choices=list(LAYERS))
    parser.add_argument("--share", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.share is not None:
        compile_share(given.share)
        return
    began = time.monotonic()
    compile_first(__file__, str(given.out), COMPILERS)
    results = []
    for shape in given.shape:
        target = target_of(shape, LAYERS[shape])
        run(target, Case(shape, "prefill", CHUNK))  # makes the buffers
        for buffers in target.cache.buffers:
            for buffer in buffers:
                buffer.normal_()
        for case in cases(shape):
            results.append(measured(target, case, given.turns))
            echo(told(results[-1]))
        del target
        torch.cuda.empty_cache()
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps({**facts(), "passes": results}, indent=1) + "\n", encoding="utf-8")
    echo(f"took {time.monotonic() - began:.0f} s")
    if wrong := [told(each) for each in results if not each["apart"] < MOST_APART]:
        raise SystemExit("\n".join(["not the pass that was to be timed:", *wrong]))


if __name__ == "__main__":
    main()
