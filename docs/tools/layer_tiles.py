r"""Find the tiles with which the fused layers of a shape are fastest on a GPU, alone and as one of several ranks.

python docs/tools/layer_tiles.py --out layer-tiles.json
python docs/tools/layer_tiles.py --ranks 2 --tokens 32 --seconds 60 --out layer-tiles.json

A chain of layers, captured as a CUDA graph, is timed with one kernel's tile changed at a time, and with what is best so
far in all others: first the tiles, then how early kernels are launched and how much they read ahead, then how attention
is split. Sums over ranks are left out; a rank's products have its sizes. Nothing is changed by it: what it finds is for
orthrus/kernels/tiles.py.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from orthrus import MaskDescription
from orthrus.kernels import skinny_linear
from orthrus.kernels.small_ops import split_heads
from orthrus.kernels.tiles import Tile, tile
from orthrus.terminal import echo
from orthrus_attention import split_kv
from orthrus_attention.split_kv import SplitAttention

LAYERS, HIDDEN, HEADS, KEY_HEADS, SIZE, INNER = (
    8,
    4096,
    32,
    8,
    128,
    12288,
)  # of Qwen3-8B, all layers but the first eight
CONTEXT, SLOTS = 512, 1024
REPLAYS = 15
KERNELS = ("qkv", "out", "gate_up", "down")
COMPILERS = 6  # processes that compile beside one another
TILES = {
    32: [
        *(Tile(32, 16, inputs, warps, stages) for inputs, warps, stages in ((128, 4, 6), (128, 2, 6), (256, 4, 4))),
        *(Tile(32, 32, inputs, warps, stages) for inputs, warps, stages in ((128, 4, 4), (256, 4, 3), (64, 4, 8))),
        *(Tile(32, 64, inputs, warps, stages) for inputs, warps, stages in ((128, 4, 4), (128, 8, 4), (64, 4, 7))),
        *(Tile(32, 128, inputs, warps, stages) for inputs, warps, stages in ((128, 8, 3), (64, 8, 5), (64, 4, 5))),
    ],
    16: [
        *(Tile(16, 16, inputs, warps, stages) for inputs, warps, stages in ((256, 2, 4), (256, 4, 4), (128, 4, 6))),
        *(Tile(16, 32, inputs, warps, stages) for inputs, warps, stages in ((128, 4, 5), (256, 4, 4), (128, 2, 6))),
        *(Tile(16, 64, inputs, warps, stages) for inputs, warps, stages in ((128, 4, 4), (128, 8, 5))),
    ],
}
LAUNCHES = [(1, 0), (2, 0), (1, 512), (2, 512), (2, 2048)]
SPLITS = [(16, 1), (32, 1), (16, 2), (32, 2), (64, 2), (16, 4), (32, 4), (64, 4), (32, 8)]  # rows of a tile, splits


@dataclass
class Chosen:
    """The layout of each kernel; split: rows of a tile of attention and splits, None: as it is."""

    tiles: dict[str, Tile]
    split: tuple[int, int] | None = None


@dataclass
class Chain:
    """Layers of a rank over some tokens after a text."""

    ranks: int
    tokens: int
    layers: int = LAYERS
    shapes: dict[str, tuple[int, int]] = field(init=False)  # outputs, inputs
    weights: list[dict[str, Tensor]] = field(init=False)

    def __post_init__(self) -> None:
        heads, keys, inner = HEADS // self.ranks, KEY_HEADS // self.ranks, INNER // self.ranks
        self.heads = heads, keys
        self.shapes = {
            "qkv": ((heads + 2 * keys) * SIZE, HIDDEN),
            "out": (HIDDEN, heads * SIZE),
            "gate_up": (2 * inner, HIDDEN),
            "down": (HIDDEN, inner),
        }
        self.weights = [
            {name: torch.randn(shape, device="cuda", dtype=torch.bfloat16) / 64 for name, shape in self.shapes.items()}
            for _ in range(self.layers)
        ]
        new = torch.arange(CONTEXT, CONTEXT + self.tokens, device="cuda")[None]
        self.slots, lengths = new, torch.full((1,), CONTEXT, device="cuda")
        self.cache = [torch.randn(1, keys, SLOTS, SIZE, device="cuda").bfloat16() for _ in range(2)]
        self.angles = [torch.randn(1, self.tokens, SIZE, device="cuda").bfloat16() for _ in range(2)]
        self.norm, self.head_norm = (torch.ones(size, device="cuda").bfloat16() for size in (HIDDEN, SIZE))
        self.attention = SplitAttention()
        mask = MaskDescription("causal", new, lengths, CONTEXT + self.tokens)
        self.prepared = self.attention.prepare(mask, None, torch.bfloat16)
        self.hidden = torch.randn(1, self.tokens, HIDDEN, device="cuda").bfloat16()

    def run(self) -> None:
        """Pass through the layers."""
        hidden = self.hidden.clone()
        normed = skinny_linear.gain(hidden, self.norm)
        for weights in self.weights:
            joined = skinny_linear.linear(normed, weights["qkv"], None, 1e-6)
            norms, place = (self.head_norm, self.head_norm, 1e-6), _Place((*self.cache, self.slots))
            query, *_ = split_heads(joined, self.heads, self.angles[0], self.angles[1], norms, place, 0)
            seen = self.attention.attend(query, *self.cache, self.prepared, scale=SIZE**-0.5)
            seen = seen.transpose(1, 2).reshape(1, self.tokens, -1)
            after = skinny_linear.linear_added(seen, weights["out"], hidden, self.norm)
            inner = skinny_linear.gated(after, weights["gate_up"], 1e-6)
            normed = skinny_linear.linear_added(inner, weights["down"], hidden, self.norm)

    def microseconds(self, chosen: Chosen) -> float:
        """Return what a layer takes with these tiles, within a CUDA graph; infinite: they cannot be launched."""
        try:
            with applied(chosen, self.shapes):
                return self._captured()
        except Exception as error:  # of whatever a tile is too large for
            echo(f"  {type(error).__name__}: {str(error)[:100]}")
            return float("inf")

    def _captured(self) -> float:
        stream, graph = torch.cuda.Stream(), torch.cuda.CUDAGraph()
        with torch.cuda.stream(stream):
            self.run()
        torch.cuda.synchronize()
        with torch.cuda.graph(graph, stream=stream):
            self.run()
        times = []
        for _ in range(REPLAYS):
            first, last = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            first.record()
            graph.replay()
            last.record()
            torch.cuda.synchronize()
            times.append(1000 * first.elapsed_time(last) / self.layers)
        return statistics.median(times)


class _Place:
    """A cache's place for keys and values."""

    def __init__(self, destination: tuple[Tensor, Tensor, Tensor]) -> None:
        self._destination = destination

    def reserve(self, *args: object) -> tuple[Tensor, Tensor, Tensor]:
        """Return buffers and slots."""
        return self._destination

    def read(self, layer: int) -> tuple[Tensor, Tensor]:
        """Return keys and values."""
        return self._destination[:2]


class applied:  # noqa: N801  # a context manager
    """Let kernels have the layouts that were chosen, meanwhile."""

    def __init__(self, chosen: Chosen, shapes: Mapping[str, tuple[int, int]]) -> None:
        self._layouts = {}
        for name, (outputs, inputs) in shapes.items():
            width = outputs if name in ("out", "down") else inputs  # what the kernels' callers say
            self._layouts.setdefault((outputs, width), []).append((name, chosen.tiles[name]))
        self._split = chosen.split

    def __enter__(self) -> None:
        self._before = skinny_linear.tile, split_kv.tile_sizes, split_kv.split_count, split_kv.is_steady
        turns = dict.fromkeys(self._layouts, 0)

        def layout(tokens: int, outputs: int, width: int, most_columns: int = 256) -> Tile:
            turns[outputs, width] += 1  # out and down take turns
            among = self._layouts[outputs, width]
            return among[(turns[outputs, width] - 1) % len(among)][1]

        skinny_linear.tile = layout
        if self._split:
            rows, splits = self._split
            split_kv.is_steady = lambda *args: False  # whose parts are given
            split_kv.tile_sizes = lambda *args: (rows, 64, 4)
            split_kv.split_count = lambda *args: splits

    def __exit__(self, *error: object) -> None:
        skinny_linear.tile, split_kv.tile_sizes, split_kv.split_count, split_kv.is_steady = self._before


def usual(chain: Chain) -> Chosen:
    """Return what there is."""
    return Chosen(
        {
            name: tile(chain.tokens, outputs, outputs if name in ("out", "down") else inputs)
            for name, (outputs, inputs) in chain.shapes.items()
        }
    )


def variants(chosen: Chosen, stage: str, name: str, tokens: int) -> Iterator[tuple[str, Chosen]]:
    """Yield what else a kernel could be in a stage: words for it, and all layouts then."""
    if name == "attention":
        for split in SPLITS if stage == "attention" and tokens > 16 else ():
            yield f"{split[0]} rows, {split[1]} splits", replace(chosen, split=split)
        return
    now = chosen.tiles[name]
    launches = [replace(now, early=early, ahead=ahead) for early, ahead in LAUNCHES]
    tiles = [replace(other, early=now.early, ahead=now.ahead) for other in TILES[now.tokens]]
    for other in {"tiles": tiles, "launches": launches}.get(stage, []):
        yield words(other), replace(chosen, tiles={**chosen.tiles, name: other})


def words(layout: Tile) -> str:
    """Return a tile in short."""
    launch = f", early {layout.early} ahead {layout.ahead}" if layout.early else ""
    return f"{layout.tokens}x{layout.columns}x{layout.inputs} {layout.warps} warps {layout.stages} stages{launch}"


def search(ranks: int, tokens: int, until: Callable[[], bool]) -> dict[str, Any]:
    """Return what was measured, and what is best."""
    chain = Chain(ranks, tokens)
    best = usual(chain)
    fastest = before = chain.microseconds(best)
    fastest = before = chain.microseconds(best)
    tried: list[tuple[str, str, float]] = []
    echo(f"--- {ranks} ranks, {tokens} tokens: {before:.1f} us a layer")
    for stage in ("attention", "tiles", "launches", "tiles again"):
        for name in (*KERNELS, "attention"):
            start = best
            for label, variant in variants(start, stage.split()[0], name, tokens):
                if until():
                    break
                taken = chain.microseconds(variant)
                tried.append((name, label, taken))
                if taken < 0.997 * fastest:
                    fastest, best = taken, variant
        echo(f"{stage}: {fastest:.1f} us")
    for name, label, taken in sorted(tried, key=lambda each: (each[0], each[2])):
        echo(f"  {taken:7.1f}  {name:9}  {label}")
    echo("best: " + "; ".join(f"{name} {words(layout)}" for name, layout in best.tiles.items()) + f"; {best.split}")
    return {
        "ranks": ranks,
        "tokens": tokens,
        "microseconds of a layer": {"before": before, "best": fastest},
        "best": {name: asdict(layout) for name, layout in best.tiles.items()},
        "split": best.split,
        "tried": tried,
    }


def compile_share(ranks: int, tokens: int, share: int) -> None:
    """Compile a share of the tiles, which others then find on the disk."""
    chain = Chain(ranks, tokens, layers=1)
    chosen = usual(chain)
    every = [(stage, name) for stage in ("attention", "tiles") for name in (*KERNELS, "attention")]
    tried = [variant for stage, name in every for _, variant in variants(chosen, stage, name, tokens)]
    for variant in tried[share::COMPILERS]:
        try:
            with applied(variant, chain.shapes):
                chain.run()
        except Exception as error:  # it is told of when it is measured
            echo(type(error).__name__)


def main() -> None:
    """Measure, and print what is best."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ranks", nargs="+", type=int, default=[2, 1], help="how many share the model")
    parser.add_argument("--tokens", type=int, default=32, help="of a pass")
    parser.add_argument("--seconds", type=float, default=110.0, help="after which nothing further is tried")
    parser.add_argument("--out", type=Path, required=True, help="a file for the values as JSON")
    parser.add_argument("--share", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.share is not None:
        for ranks in given.ranks:
            compile_share(ranks, given.tokens, given.share)
        return
    began = time.monotonic()
    command = [sys.executable, __file__, "--out", str(given.out), "--tokens", str(given.tokens), "--ranks"]
    command += [str(ranks) for ranks in given.ranks]
    compilers = [subprocess.Popen([*command, "--share", str(share)]) for share in range(COMPILERS)]
    for compiler in compilers:
        compiler.wait()
    echo(f"compiled after {time.monotonic() - began:.0f} s")
    results = []
    for number, ranks in enumerate(given.ranks, start=1):
        end = began + 20 + (given.seconds - 20) * number / len(given.ranks)
        results.append(search(ranks, given.tokens, lambda end=end: time.monotonic() > end))
        text = {"device": torch.cuda.get_device_name(), "torch": torch.__version__, "results": results}
        given.out.write_text(json.dumps(text, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
