r"""Compare tiles of the skinny products on a GPU: whether their bits are equal, and how fast they are beside cuBLAS.

python docs/tools/product_tiles.py --out product-tiles.json

Every product of Qwen3-1.7B's and 8B's layers, of 64 to 128 tokens and of prefills of 512, and of SmolLM2-135M's layers
and head of 34 to 1,056, by each tile, within a CUDA graph that goes through enough weights to read them from memory.
`bits`: whether the sums are those that a token has alone by the tile of few tokens.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import time
from functools import partial
from pathlib import Path

import torch
from kernel_compilers import compile_first
from torch import Tensor

from orthrus.kernels import skinny_linear
from orthrus.kernels.normed import unnormed
from orthrus.kernels.tiles import Tile
from orthrus.terminal import echo

SHAPES = {  # outputs, inputs
    "135m qkv": (960, 576),
    "135m out": (576, 576),
    "135m gate_up": (3072, 576),
    "135m down": (576, 1536),
    "135m head": (49152, 576),
    "1.7b qkv": (4096, 2048),
    "1.7b out": (2048, 2048),
    "1.7b gate_up": (12288, 2048),
    "1.7b down": (2048, 6144),
    "8b qkv": (6144, 4096),
    "8b out": (4096, 4096),
    "8b gate_up": (24576, 4096),
    "8b down": (4096, 12288),
}
REFERENCE = Tile(16, 16, 128, 2, 6)
FEW = [
    REFERENCE,
    Tile(32, 16, 128, 4, 6),
    Tile(32, 32, 128, 4, 5),
    Tile(32, 64, 128, 4, 4),
    Tile(64, 16, 128, 4, 5),
    Tile(64, 16, 128, 2, 5),
    Tile(64, 32, 128, 4, 4),
    Tile(64, 32, 128, 4, 6),
    Tile(64, 32, 128, 2, 4),
    Tile(64, 32, 128, 8, 4),
    Tile(64, 32, 64, 4, 8),
    Tile(64, 32, 256, 4, 4),
    Tile(64, 64, 128, 4, 4),
    Tile(64, 64, 128, 4, 6),
    Tile(64, 64, 64, 4, 8),
    Tile(64, 64, 128, 8, 4),
    Tile(64, 128, 64, 4, 4),
    Tile(64, 128, 64, 8, 6),
    Tile(64, 128, 128, 8, 4),
]
SOME = [
    Tile(64, 16, 128, 4, 5),
    Tile(64, 32, 64, 4, 8),
    Tile(64, 64, 64, 4, 8),
    Tile(64, 128, 64, 8, 6),
    Tile(64, 128, 64, 4, 4),
    Tile(128, 16, 128, 4, 4),
    Tile(128, 16, 128, 8, 5),
    Tile(128, 32, 64, 4, 6),
    Tile(128, 32, 64, 8, 8),
    Tile(128, 32, 128, 8, 4),
    Tile(128, 64, 64, 4, 6),
    Tile(128, 64, 64, 8, 6),
    Tile(128, 64, 64, 8, 4),
    Tile(128, 128, 64, 8, 4),
    Tile(128, 128, 64, 8, 6),
    Tile(128, 192, 64, 8, 4),
    Tile(128, 256, 64, 8, 4),
]
MANY = [
    Tile(64, 128, 64, 4, 4),
    Tile(64, 256, 64, 4, 4),
    Tile(64, 256, 64, 8, 4),
    Tile(128, 64, 64, 4, 4),
    Tile(128, 128, 64, 4, 4),
    Tile(128, 128, 64, 8, 4),
    Tile(128, 256, 64, 8, 3),
    Tile(128, 256, 64, 8, 4),
    Tile(128, 128, 64, 2, 4),
]
SMALL = [  # of a small model, whose passes of many tokens are short
    Tile(32, 16, 128, 4, 6),
    Tile(32, 32, 128, 4, 5),
    Tile(32, 64, 64, 4, 6),
    Tile(64, 16, 64, 4, 6),
    Tile(64, 32, 64, 4, 6),
    Tile(64, 32, 64, 2, 6),
    Tile(64, 64, 64, 4, 4),
    Tile(64, 64, 64, 4, 6),
    Tile(64, 64, 64, 8, 6),
    Tile(64, 128, 64, 4, 4),
    Tile(64, 128, 64, 8, 4),
    Tile(128, 32, 64, 4, 5),
    Tile(128, 64, 64, 4, 4),
    Tile(128, 64, 64, 8, 4),
    Tile(128, 128, 64, 8, 4),
    Tile(128, 256, 64, 8, 3),
]
GROUPS = {64: FEW, 65: SOME, 80: SOME, 96: SOME, 128: SOME, 512: MANY, 2048: MANY, 32: FEW[:4], 1: FEW[:1]}
SMALL_GROUPS = dict.fromkeys([34, 64, 128, 160, 288, 544, 1056], SMALL)
COMPILERS = 14


def tiles_of(name: str, tokens: int) -> list[Tile]:
    """Return the tiles to compare for a product of so many tokens: those of whole columns."""
    tiles = (SMALL_GROUPS if name.startswith("135m") else GROUPS).get(tokens, [])
    return [layout for layout in tiles if SHAPES[name][0] % layout.columns == 0]


def product(hidden: Tensor, weight: Tensor, layout: Tile, dtype: torch.dtype) -> Tensor:
    """Return the product by a tile."""
    return skinny_linear.linear_by_tile(unnormed(hidden), weight, None, 0.0, layout, dtype)


def microseconds(work: list) -> float:
    """Return what one of the calls takes within a CUDA graph of all."""
    stream, graph = torch.cuda.Stream(), torch.cuda.CUDAGraph()
    with torch.cuda.stream(stream):
        work[0]()
    torch.cuda.synchronize()
    with torch.cuda.graph(graph, stream=stream):
        for each in work:
            each()
    times = []
    for _ in range(9):
        first, last = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        first.record()
        graph.replay()
        last.record()
        torch.cuda.synchronize()
        times.append(1000 * first.elapsed_time(last) / len(work))
    return statistics.median(times)


def weights(shape: tuple[int, int]) -> list[Tensor]:
    """Return enough of them that the cache does not hold them."""
    count = max(4, int(400e6 // (2 * shape[0] * shape[1])))
    torch.manual_seed(0)
    return [torch.randn(shape, device="cuda", dtype=torch.bfloat16) / 64 for _ in range(count)]


def measured(name: str, tokens: int, tiles: list[Tile]) -> list[dict]:
    """Return bits and times of the tiles."""
    held = weights(SHAPES[name])
    hidden = torch.randn(1, tokens, SHAPES[name][1], device="cuda").bfloat16()
    some = torch.tensor([0, 1, tokens // 3, tokens // 2 + 3, tokens - 1], device="cuda").clamp(max=tokens - 1)
    alone = torch.cat([product(hidden[:, [n]], held[0], REFERENCE, torch.float32) for n in some.tolist()], 1)
    results = []
    base = microseconds([partial(torch.mm, hidden[0], w.t()) for w in held])
    echo(f"--- {name}, {tokens} tokens: cuBLAS {base:.1f} us, {2e-6 * held[0].numel() / base:.2f} TB/s")
    results.append({"shape": name, "tokens": tokens, "tile": "cublas", "us": base})
    mm = torch.mm(hidden[0], held[0].t(), out_dtype=torch.float32)[None]
    normed = unnormed(hidden)
    today = microseconds([partial(skinny_linear.linear, normed, w, None, 0.0) for w in held])
    echo(f"  {today:7.1f} us ({today / base:5.2f})  as passes do it; cuBLAS bits {torch.equal(mm[:, some], alone)}")
    results.append({"shape": name, "tokens": tokens, "tile": "as passes do it", "us": today})
    for layout in tiles:
        words = f"{layout.tokens}x{layout.columns}x{layout.inputs} {layout.warps}w {layout.stages}s"
        try:
            wide = product(hidden, held[0], layout, torch.float32)
            equal = torch.equal(wide[:, some], alone)
            taken = microseconds([partial(product, hidden, w, layout, torch.bfloat16) for w in held])
        except Exception as error:  # of whatever a tile is too large for
            echo(f"  {words}: {type(error).__name__} {str(error)[:80]}")
            continue
        echo(f"  {taken:7.1f} us ({taken / base:5.2f})  {words:22} bits {equal}")
        results.append({"shape": name, "tokens": tokens, "tile": words, "us": taken, "bits": equal})
    return results


def compile_share(share: int) -> None:
    """Compile a share of the tiles, which others then find on the disk."""
    large = dict.fromkeys([*FEW, *SOME, *MANY])
    every = [(shape, layout) for shape in SHAPES for layout in (SMALL if shape.startswith("135m") else large)]
    for shape, layout in every[share::COMPILERS]:
        weight = torch.zeros(SHAPES[shape], device="cuda", dtype=torch.bfloat16)
        hidden = torch.zeros(1, 128, SHAPES[shape][1], device="cuda", dtype=torch.bfloat16)
        for dtype in (torch.float32, torch.bfloat16):
            with contextlib.suppress(Exception):  # it is told of when it is measured
                product(hidden, weight, layout, dtype)


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--tokens", type=int, nargs="+", default=list(GROUPS), choices=sorted({*GROUPS, *SMALL_GROUPS}))
    parser.add_argument("--model", choices=["135m", "1.7b", "8b"], default="", help="only this one's products")
    parser.add_argument("--seconds", type=float, default=150)
    parser.add_argument("--share", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.share is not None:
        compile_share(given.share)
        return
    began = time.monotonic()
    compile_first(__file__, str(given.out), COMPILERS)
    results = []
    for tokens in given.tokens:
        for name in filter(lambda name: name.startswith(given.model), SHAPES):
            tiles = tiles_of(name, tokens)
            if tiles and time.monotonic() - began < given.seconds:
                results += measured(name, tokens, tiles)
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    echo(f"took {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
