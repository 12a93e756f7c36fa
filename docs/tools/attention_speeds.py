"""Print the time of one layer's attention by backend and context: run it on a CUDA device, from the repository.

python docs/tools/attention_speeds.py --out docs/evidence/attention-speeds.json
python docs/tools/attention_speeds.py --page  # puts that file into docs/reference/attention.md; needs no device
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any

import torch

from orthrus import AttentionBackend, MaskDescription, OrthrusError, Parts, Plugins

HEADS = ((8, 4, 128), (3, 3, 64))  # key heads, query heads a key head, size of a head
BATCHES = (1, 32)
QUERIES = (1, 32)
CONTEXTS = (512, 2048, 8192, 32768, 40960)
DOCS = Path(__file__).parents[1]
FOUND = DOCS / "evidence" / "attention-speeds.json"
MARK, END = "<!-- attention speeds -->\n", "<!-- end -->\n"
LAUNCHES = 10  # in one graph: what is timed is the kernels, not their launching
DTYPE = torch.bfloat16


@dataclass(frozen=True)
class Shape:
    """Hold the shape of one measured call; the context is full."""

    key_heads: int
    groups: int
    size: int
    batch: int
    queries: int
    context: int


@dataclass(frozen=True)
class Timing:
    """Hold one backend's microseconds for one call at one shape: median, lowest and highest; or why there are none."""

    backend: str
    shape: Shape
    microseconds: tuple[float, float, float] | None
    error: str | None = None


def shapes() -> Iterator[Shape]:
    """Yield every shape, contexts innermost."""
    for heads in HEADS:
        for batch in BATCHES:
            for queries in QUERIES:
                for context in CONTEXTS:
                    yield Shape(*heads, batch, queries, context)


def measure(name: str, backend: AttentionBackend, shape: Shape) -> Timing:
    """Return one backend's time at one shape; whatever it fails with becomes its error."""
    try:
        return Timing(name, shape, timed(call(backend, shape)))
    except torch.cuda.OutOfMemoryError:
        return Timing(name, shape, None, "does not fit")
    except OrthrusError as error:
        return Timing(name, shape, None, str(error))
    except Exception as error:  # a kernel that refuses a shape must not end the others' measurements
        return Timing(name, shape, None, f"{type(error).__name__}: {' '.join(str(error).split())[:200]}")
    finally:
        torch.cuda.empty_cache()


def call(backend: AttentionBackend, shape: Shape) -> Callable[[], Any]:
    """Return the backend's call over random keys, a full buffer of them."""
    lengths = torch.full((shape.batch,), shape.context - shape.queries, device="cuda")
    positions = lengths[:, None] + torch.arange(shape.queries, device="cuda")
    mask = MaskDescription("causal", positions, lengths, shape.context)
    heads = shape.key_heads * shape.groups
    query = torch.randn(shape.batch, shape.queries, heads, shape.size, device="cuda", dtype=DTYPE).transpose(1, 2)
    key = torch.randn(shape.batch, shape.key_heads, shape.context, shape.size, device="cuda", dtype=DTYPE)
    value = torch.randn_like(key)
    prepared = backend.prepare(mask, None, DTYPE)
    return lambda: backend.attend(query, key, value, prepared, scale=shape.size**-0.5)


def timed(attend: Callable[[], Any]) -> tuple[float, float, float]:
    """Return a call's median, lowest and highest microseconds, from recordings of ten calls."""
    from triton.testing import do_bench

    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]  # torch has no type for it
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        attend()
        attend()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(LAUNCHES):
            attend()
    median, low, high = do_bench(graph.replay, warmup=5, rep=30, quantiles=[0.5, 0.0, 1.0])  # ms of ten calls
    scale = 1000 / LAUNCHES
    return median * scale, low * scale, high * scale


def rows(timings: Sequence[Timing], names: Sequence[str]) -> Iterator[str]:
    """Yield the lines of a table: a shape a line, a backend a column."""
    yield "| key heads, heads, size | batch | queries | context | " + " | ".join(f"`{name}`" for name in names) + " |"
    yield "|---" * (4 + len(names)) + "|"
    for shape in dict.fromkeys(timing.shape for timing in timings):
        cells = {timing.backend: cell(timing) for timing in timings if timing.shape == shape}
        heads = f"{shape.key_heads}, {shape.key_heads * shape.groups}, {shape.size}"
        start = f"| {heads} | {shape.batch} | {shape.queries} | {shape.context:,} | "
        yield start + " | ".join(cells[name] for name in names) + " |"


def cell(timing: Timing) -> str:
    """Return a median and its spread in microseconds, or that there is none."""
    if timing.microseconds is None:
        return "does not fit" if timing.error == "does not fit" else "fails"
    median, low, high = timing.microseconds
    return f"{median:.4g} ({low:.4g} to {high:.4g})"


def page_lines(measured: dict[str, Any]) -> list[str]:
    """Return the lines of docs/reference/attention.md for what a file of this program holds."""
    timings = [
        Timing(
            record["backend"],
            Shape(**record["shape"]),
            record["microseconds"] and tuple(record["microseconds"]),
            record["error"],
        )
        for record in measured["timings"]
    ]
    dtype = measured["dtype"].removeprefix("torch.")
    ran = f"{measured['device']}, torch {measured['torch']}, {dtype}, {measured['date']}"
    names = list(dict.fromkeys(timing.backend for timing in timings))
    what = f"{ran}; microseconds of a call: the median, and in brackets the lowest and the highest."
    return [what, "", *rows(timings, names)]


def write_page() -> None:
    """Put the lines into the page, in the place of those there."""
    page = DOCS / "reference" / "attention.md"
    before, _, after = page.read_text(encoding="utf-8").partition(MARK)
    rest = after.partition(END)[2]
    lines = "\n".join(page_lines(json.loads(FOUND.read_text(encoding="utf-8"))))
    page.write_text(f"{before}{MARK}{lines}\n{END}{rest}", encoding="utf-8")


def arguments() -> argparse.Namespace:
    """Return what the command line says."""
    known = [entry.name for entry in Plugins.load().catalog if entry.kind == "attention"]
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backends", nargs="+", choices=known, default=known, help="which to time; default: all")
    parser.add_argument("--out", type=Path, help="a file for the values as JSON")
    parser.add_argument("--page", action="store_true", help=f"put {FOUND.name} into docs/reference/attention.md")
    given = parser.parse_args()
    if not given.page and not torch.cuda.is_available():
        parser.error("timing attention backends needs a CUDA device, and torch finds none here")
    return given


def save(path: Path, device: str, timings: Sequence[Timing]) -> None:
    """Write the values as JSON."""
    ran_on = {"date": date.today().isoformat(), "device": device, "torch": torch.__version__}
    measured = {**ran_on, "dtype": str(DTYPE), "launches": LAUNCHES}
    path.write_text(json.dumps({**measured, "timings": [asdict(timing) for timing in timings]}, indent=1) + "\n")


def main() -> None:
    """Time every backend that can be made here at every shape, and print the table."""
    given, started = arguments(), time.monotonic()
    if given.page:
        write_page()
        return
    device = torch.cuda.get_device_name()
    print(f"{device}, torch {torch.__version__}, {DTYPE}; microseconds of a call: median (lowest to highest)")
    timings, names = [], []
    for name in given.backends:
        try:
            backend = Plugins.load().get("attention", name).load_factory()(None, Parts())
        except Exception as error:  # one that cannot be made must not end the others' measurements
            print(f"{name}: left out: {' '.join(str(error).split())[:300]}", flush=True)
            continue
        names.append(name)
        timings += [measure(name, backend, shape) for shape in shapes()]
        print(f"{name}: done after {time.monotonic() - started:.0f} s", flush=True)
        if given.out:  # after each, so that an interrupted run leaves what it has
            save(given.out, device, timings)
    print("\n".join(rows(timings, names)))
    for timing in timings:
        if timing.error:
            print(f"{timing.backend} at {timing.shape}: {timing.error}")


if __name__ == "__main__":
    main()
