"""Print what a diffusion pass needs beside the model, its view and the committed keys, and how that grows.

python docs/tools/view_memory.py --shape qwen3-8b --out docs/evidence/view-memory.json engine=fused
python docs/tools/view_memory.py --page  # puts what that file holds into docs/explanation/dual-view.md

The view is one of copies, which takes the memory of any. The last arguments are options of the target. On a CUDA device
the allocator counts; elsewhere the tensors that torch's operators make are counted, while they live.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

import orthrus
from orthrus import Context, Scheduler, Stop, Verdict

VIEW = "copy"
MIB = 2**20
COLUMNS = ("context", "keys and values", "one token", "a block, scored", "a block, drafted")
DOCS = Path(__file__).parents[1]
FOUND = DOCS / "evidence" / "view-memory.json"
MARK, END = "<!-- view memory -->\n", "<!-- end -->\n"


@dataclass(frozen=True)
class Row:
    """Hold bytes at one context: the committed keys and values, and what each kind of pass needs beside them."""

    context: int
    keys: int
    token: int
    scored: int
    drafted: int


@dataclass(frozen=True)
class Found:
    """Hold what was measured where; weights, view and transient (keys and values of one block) are in bytes."""

    model: str
    ran_on: str
    block: int
    weights: int
    view: int
    transient: int
    rows: tuple[Row, ...]

    @property
    def share(self) -> float:
        """Return the view's part of model and view."""
        return self.view / (self.weights + self.view)

    @property
    def slope(self) -> float:
        """Return how much more a drafting pass needs at the longest context, as a part of the keys' growth."""
        first, last = self.rows[0], self.rows[-1]
        return (last.drafted - first.drafted) / (last.keys - first.keys)


class Meter(TorchDispatchMode):
    """Count the bytes of tensors that operators make, while they live: `peak` is the most at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.peak = 0
        self._live: dict[int, tuple[StorageWeakRef, int]] = {}

    def __torch_dispatch__(self, operator: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operator and note the storages that it made: those that it was not given."""
        given = {storage._cdata for storage in _storages((args, kwargs))}
        result = operator(*args, **(kwargs or {}))
        for storage in _storages(result):
            if storage._cdata not in given:
                self._live[storage._cdata] = StorageWeakRef(storage), storage.nbytes()
        self._live = {key: held for key, held in self._live.items() if not held[0].expired()}
        self.peak = max(self.peak, sum(size for _, size in self._live.values()))
        return result


def _storages(values: Any) -> list[Any]:
    return [value.untyped_storage() for value in tree_iter(values) if isinstance(value, Tensor) and not value.is_mkldnn]


def peak(work: Callable[[], object], device: torch.device) -> int:
    """Return the most bytes that tensors made during the work take at a time, on CUDA what its capture keeps too."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        work()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    with Meter() as meter:
        work()
    return meter.peak


def committed(target: Any, length: int, block: int) -> Context:
    """Return a context with a prompt of so many tokens prefilled, and its anchor committed."""
    prompt = [(7 * index + 3) % target.vocabulary_size for index in range(length)]
    context = Context([prompt], Stop(block), vocabulary_size=target.vocabulary_size, device=target.device)
    target.start(context)
    scheduler = Scheduler(context)
    anchor = target.prefill(context, scheduler.refill())[:, 0].argmax(-1)  # [1]
    target.keep(scheduler.commit(context.empty_draft(), Verdict(torch.zeros_like(anchor), anchor)))
    return context


def drafting(target: Any, context: Context, block: int, view: str | None = VIEW) -> Callable[[], object]:
    """Return a pass over a block after the anchor, through a view or (causal) as the target scores it."""
    columns = torch.arange(block, device=target.device)[None]
    tokens, positions = context.anchors[:, None].expand(-1, block), context.lengths[:, None] - 1 + columns
    kind = "causal" if view is None else "block"
    return lambda: target.forward(context, tokens, positions, view=view, kind=kind)


def measure_row(target: Any, context: Context, block: int, slot: int) -> Row:
    """Return what passes need in this context; slot: bytes of one token's keys and values."""
    needed = [
        peak(drafting(target, context, width, view), target.device)
        for width, view in ((1, None), (block, None), (block, VIEW))
    ]
    return Row(context.longest, (context.longest - 1) * slot, *needed)


def measure(target: Any, contexts: Sequence[int], block: int) -> Found:
    """Return what passes need in every context: prompts are a block shorter, so that no buffer has to grow."""
    target.attach_view(VIEW)
    view = sum(weight.nbytes for weight in target.view_weights(VIEW).values())
    slot = target.pass_bytes([2]) - target.pass_bytes([1])
    warm = committed(target, 4, block)
    measure_row(target, warm, block, slot)  # libraries allocate for themselves once
    rows = [measure_row(target, committed(target, context - block, block), block, slot) for context in contexts]
    with target.own_model() as model:
        weights = sum(weight.nbytes for weight in model.parameters())
        dtype = str(model.dtype).removeprefix("torch.")
    device = torch.cuda.get_device_name(target.device) if target.device.type == "cuda" else "CPU"
    ran_on = f"{device}, torch {torch.__version__}, {dtype}"
    return Found(target.name, ran_on, block, weights, view, block * slot, tuple(rows))


def read(file: Path) -> Found:
    """Return what a file of this program holds."""
    values = json.loads(file.read_text(encoding="utf-8"))
    return Found(**{**values, "rows": tuple(Row(**row) for row in values["rows"])})


def page_lines(measured: Found) -> list[str]:
    """Return the table as Markdown, in MiB, with what was measured before it and what it says after it."""
    lines = [f"`{measured.model}`, {measured.ran_on}; MiB beside model and view.", ""]
    lines += [f"| {' | '.join(COLUMNS)} |", "|" + "---|" * len(COLUMNS)]
    for row in measured.rows:
        sizes = (row.keys, row.token, row.scored, row.drafted)
        lines.append(f"| {row.context:,} | {' | '.join(f'{size / MIB:.2f}' for size in sizes)} |")
    return [
        *lines,
        "",
        f"The view is {measured.share:.1%} of model and view. Keys and values of a block of {measured.block}:"
        f" {measured.transient / MIB:.2f} MiB. Growth of a drafting pass: {measured.slope:.2%} of the keys',"
        f" {' and '.join(between(*pair) for pair in pairwise(measured.rows))}.",
    ]


def between(first: Row, last: Row) -> str:
    """Return the growth from one context to the next in words."""
    share = (last.drafted - first.drafted) / (last.keys - first.keys)
    return f"{share:.2%} from {first.context:,} to {last.context:,}"


def write_page() -> None:
    """Put the lines into the page, in the place of those there."""
    page = DOCS / "explanation" / "dual-view.md"
    before, _, after = page.read_text(encoding="utf-8").partition(MARK)
    lines = "\n".join(page_lines(read(FOUND)))
    page.write_text(f"{before}{MARK}{lines}\n{END}{after.partition(END)[2]}", encoding="utf-8")


def arguments() -> argparse.Namespace:
    """Return what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--shape", default="smollm2-135m", help="random weights of a named shape")
    parser.add_argument("--source", help="a model of your own in its place")
    parser.add_argument("--contexts", default="1024,8192,32768")
    parser.add_argument("--block", type=int, default=32)
    parser.add_argument("--attention", default="split" if torch.cuda.is_available() else "sdpa")
    parser.add_argument("--dtype", default="bfloat16" if torch.cuda.is_available() else "float32")
    parser.add_argument("--slots", type=int, default=512)
    parser.add_argument("--out", type=Path)
    parser.add_argument("options", nargs="*", help="of the target, such as engine=fused")
    parser.add_argument("--page", action="store_true", help=f"put {FOUND.name} into docs/explanation/dual-view.md")
    return parser.parse_args()


def main() -> None:
    """Measure a shape, print the table and write what was found."""
    given = arguments()
    if given.page:
        write_page()
        return
    config = {
        "target": {"name": "transformers", "source": given.source or f"shape:{given.shape}", "dtype": given.dtype},
        "attention": {"name": given.attention},
        "cache": {"name": "static", "slots": given.slots},
        "drafter": {"name": "none"},
        "verifier": {"name": "consensus"},
    }
    decoder = orthrus.load(config, dotted=[f"target.{option}" for option in given.options])
    measured = measure(decoder.target, [int(context) for context in given.contexts.split(",")], given.block)
    print("\n".join(page_lines(measured)))
    if given.out:
        given.out.write_text(json.dumps(asdict(measured), indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
