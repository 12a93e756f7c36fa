"""Print what a successor head costs a draft on a GPU, by kernels of its own and by torch: run it on a CUDA device.

python docs/tools/successor_costs.py --out docs/evidence/successor-costs.json

A draft's pass ends with its logits; what is timed is all that makes tokens of them, in a CUDA graph: of a block of 16
without a head, with one by torch's operations, and with one by kernels; a chain, and trees. Weights are random.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from orthrus import RowState
from orthrus.draft_states import DraftStatesTarget
from orthrus_diffusion.block import MaskedBlock, SuccessorBlock
from orthrus_diffusion.successor import SuccessorHead
from orthrus_diffusion.transitions import Successors

SHAPES = {"smollm2-135m": (576, 49_152), "qwen3-8b": (4096, 151_936)}  # hidden size, vocabulary
RANK, BLOCK = 512, 16
BATCHES, NODES = (1, 8, 32), (0, 32, 63)
REPLAYS, TIMES = 20, 30


@dataclass(frozen=True, eq=False)
class Tables:
    """A target of tables alone; lends: kernels may read them."""

    table: Tensor
    lends: bool

    def embed(self, tokens: Tensor) -> Tensor:
        """Return rows of the table."""
        return torch.nn.functional.embedding(tokens, self.table)

    head_rows = embed

    def tables(self) -> tuple[Tensor, Tensor] | None:
        """Return the tables, or None."""
        return (self.table, self.table) if self.lends else None


def works(size: int, vocabulary: int, rows: int, nodes: int) -> Iterator[tuple[str, Callable[[], Tensor]]]:
    """Yield what makes tokens of a block's logits, by name."""
    device = torch.device("cuda")
    state = RowState(*(torch.full((rows,), number, device=device) for number in (99, 4, 900)))
    logits = 3 * torch.randn(rows, BLOCK - 1, vocabulary, device=device)
    states = torch.randn(rows, BLOCK - 1, size, device=device, dtype=torch.bfloat16)
    table = torch.randn(vocabulary, size, device=device, dtype=torch.bfloat16)
    head = SuccessorHead.untrained(RANK, table, size, seed=0)
    head.out.normal_(std=0.01)
    plain = MaskedBlock(BLOCK, 3, False, True, nodes)
    yield "no head", lambda: plain.result(state, logits)
    for name, lends in (("torch", False), ("kernels", True)):
        target = cast(DraftStatesTarget, Tables(table, lends))
        block = SuccessorBlock(BLOCK, 3, False, True, nodes, successors=Successors(head, target))
        yield name, lambda block=block: block.result_of_states(state, logits, states)  # type: ignore[misc]


def microseconds(work: Callable[[], Tensor]) -> float:
    """Return the median of what the work takes in a graph of many."""
    work()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(REPLAYS):
            work()
    first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    taken = []
    for _ in range(TIMES):
        first.record()
        graph.replay()
        last.record()
        torch.cuda.synchronize()
        taken.append(1000 * first.elapsed_time(last) / REPLAYS)
    return statistics.median(taken[2:])


def kernels(work: Callable[[], Tensor]) -> dict[str, float]:
    """Return the microseconds of each kernel, by name, launched one by one."""
    with profile(activities=[ProfilerActivity.CUDA], acc_events=True) as seen:
        work()
        torch.cuda.synchronize()
    summed: dict[str, float] = {}
    for event in seen.events() or ():
        if event.time_range.elapsed_us() > 0:
            summed[event.name[:60]] = round(summed.get(event.name[:60], 0.0) + event.time_range.elapsed_us(), 2)
    return summed


def main() -> None:
    """Time all shapes, batches and trees; print a line of each, and write all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="a file for the values as JSON")
    parser.add_argument("--kernels", action="store_true", help="keep the time of each kernel, too")
    given = parser.parse_args()
    if not torch.cuda.is_available():
        parser.error("timing a head's kernels needs a CUDA device, and torch finds none here")
    lines: list[dict[str, Any]] = []
    for shape, (size, vocabulary) in SHAPES.items():
        for rows in BATCHES:
            for nodes in NODES:
                line: dict[str, Any] = {"shape": shape, "batch": rows, "tree": nodes}
                for name, work in works(size, vocabulary, rows, nodes):
                    line[name] = round(microseconds(work), 1)
                    if given.kernels and name != "no head" and rows == 1:
                        line[f"{name}, by kernel"] = kernels(work)
                lines.append(line)
                print(json.dumps(line), flush=True)
    ran_on = {"date": date.today().isoformat(), "device": torch.cuda.get_device_name(), "torch": torch.__version__}
    if given.out:
        facts = {**ran_on, "dtype": "bfloat16", "block": BLOCK, "rank": RANK, "microseconds": lines}
        given.out.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
