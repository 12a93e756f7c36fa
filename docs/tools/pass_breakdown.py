r"""Print where the time of one pass goes, by groups of kernels: run it from the repository, on a GPU or a CPU.

python docs/tools/pass_breakdown.py --shape qwen3-1.7b qwen3-8b --context 512 40960 \
    --out docs/evidence/pass-breakdown/h100.json
python docs/tools/pass_breakdown.py --config configs/recipes/smollm2-diffusion-gpu.yaml --tokens 16 --draft
python docs/tools/pass_breakdown.py --shape qwen3-1.7b qwen3-8b --context 512 40960 --draft \
    --set drafter.name=diffusion drafter.view=copies drafter.block=32 --out docs/evidence/pass-breakdown/h200-draft.json
OMP_NUM_THREADS=2 python docs/tools/pass_breakdown.py --config configs/recipes/smollm2-plain.yaml \
    --shape smollm2-135m --tokens 1 --context 64 --out docs/evidence/pass-breakdown/cpu.json
OMP_NUM_THREADS=2 python docs/tools/pass_breakdown.py --config configs/recipes/smollm2-plain.yaml \
    --shape smollm2-135m --tokens 1 --context 64 --set target.engine=eager \
    --out docs/evidence/pass-breakdown/cpu-eager.json
python docs/tools/pass_breakdown.py --page  # puts what these files hold into docs/evidence/benchmarks/introduction.md
"""

from __future__ import annotations

import argparse
import json
import random
import re
import shlex
import statistics
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import torch
from torch.autograd import DeviceType  # type: ignore[attr-defined]  # torch does not say that it is public
from torch.profiler import ProfilerActivity, profile

import orthrus
from orthrus import Context, Decoder, Draft, Target
from orthrus.bench.bandwidth import copy_bandwidth
from orthrus.machine import device_name
from orthrus_drafters.none import NoDrafter

DOCS = Path(__file__).parents[1]
PARTS = ("h100", "h100-draft", "h200-draft", "cpu-eager", "cpu")  # as on the page
FOUND = tuple(DOCS / "evidence" / "pass-breakdown" / f"{part}.json" for part in PARTS)
INTRODUCTION = DOCS / "evidence" / "benchmarks" / "introduction.md"
RECIPE = DOCS.parent / "configs" / "recipes" / "qwen3-8b-shape.yaml"
MARK, END = "<!-- pass breakdown -->\n", "<!-- end -->\n"
HEAD, WAITING, SMALL = "head", "waiting", "norms, rotary, the rest"
GROUPS = {  # the first that fits; kernels by their names on a GPU, torch's operations on a CPU
    "attention": r"^(partial|combine|folded)$|flash|fmha|attention|softmax|flex|aten::bmm",
    "projections": r"^(linear|linear_added|linear_summed|linear_rotated|gated|folded_added)$|gemm|gemv|nvjet|cutlass"
    r"|splitK|aten::(mm|addmm|mv)|mkldnn::_linear",
}
COLUMNS = ("projections", "attention", SMALL, HEAD, WAITING)
LAUNCHES = r"cu(da)?(LaunchKernel|MemcpyAsync|MemsetAsync)"  # of the driver's and the runtime's calls
LONGEST = 8  # kernels that are listed by name


@dataclass(frozen=True)
class Kernel:
    """Hold one kernel of a pass, or one operation on a CPU, and the milliseconds that it added."""

    name: str
    milliseconds: float


@dataclass(frozen=True)
class Breakdown:
    """Hold a pass's milliseconds (median, lowest, highest), and the mean milliseconds of each group.

    limit: what reading the pass's bytes takes at the speed of copying. kernels: how many there are in a pass. outside:
    how many the host launches one by one, not in a CUDA graph; None: on a CPU. longest: the kernels that take most, by
    name, with how many of them there are. kind: `verify`, or `draft` for the drafter's propose.
    """

    shape: str
    tokens: int
    context: int
    milliseconds: tuple[float, float, float]
    groups: Mapping[str, float]
    limit: float | None
    kernels: int
    longest: tuple[tuple[str, float, int], ...]
    kind: str = "verify"
    outside: int | None = None


def group_of(name: str) -> str:
    """Return the group of a kernel, the head aside."""
    return next((group for group, names in GROUPS.items() if re.search(names, name, re.IGNORECASE)), SMALL)


def grouped(kernels: Sequence[Kernel]) -> dict[str, float]:
    """Return the milliseconds of each group of one pass; its last projection is the head."""
    groups = [group_of(kernel.name) for kernel in kernels]
    last = max((index for index, group in enumerate(groups) if group == "projections"), default=None)
    times = dict.fromkeys(COLUMNS[:-1], 0.0)
    for index, kernel in enumerate(kernels):
        times[HEAD if index == last else groups[index]] += kernel.milliseconds
    return times


def added(spans: Sequence[tuple[str, float, float]]) -> list[Kernel]:
    """Return what each kernel, with its beginning and end in microseconds, adds to the time in which any runs.

    Kernels that are launched early overlap with those before; together they take no longer than the clock.
    """
    kernels, reached = [], 0.0
    for name, began, ended in sorted(spans, key=lambda span: span[1]):
        kernels.append(Kernel(name, max(0.0, ended - max(began, reached)) / 1000))
        reached = max(reached, ended)
    return kernels


def events_of(work: Callable[[], object], device: torch.device, activities: Sequence[ProfilerActivity]) -> list[Any]:
    """Return what torch's profiler sees of the work."""
    with profile(activities=activities, acc_events=True) as seen:  # or it warns that it forgets other profiles' events
        work()
        settle(device)
    return list(seen.events() or ())


def launched_outside(work: Callable[[], object], device: torch.device) -> int | None:
    """Return how many kernels and copies the host launches one by one, or None on a CPU; a graph is not one of them."""
    if device.type != "cuda":
        return None
    events = events_of(work, device, [ProfilerActivity.CPU, ProfilerActivity.CUDA])
    return sum(bool(re.match(LAUNCHES, event.name)) for event in events)


def profiled(work: Callable[[], object], device: torch.device) -> list[Kernel]:
    """Return the kernels of one pass on a GPU, or its operations on a CPU, each with the time spent in itself."""
    on_gpu = device.type == "cuda"
    events = events_of(work, device, [ProfilerActivity.CUDA if on_gpu else ProfilerActivity.CPU])
    if on_gpu:
        kernels = [
            event for event in events if event.device_type == DeviceType.CUDA and event.time_range.elapsed_us() > 0
        ]
        if not kernels:
            raise orthrus.InputError("torch's profiler saw no kernel; another program may be using the GPU's counters")
        return added([(event.name, event.time_range.start, event.time_range.end) for event in kernels])
    ordered = sorted(events, key=lambda event: event.time_range.start)
    return [Kernel(event.name, event.self_cpu_time_total / 1000) for event in ordered]


def timed(work: Callable[[], object], device: torch.device) -> float:
    """Return the milliseconds of one pass that begins when the device has nothing else to do, as in a cycle."""
    settle(device)
    if device.type != "cuda":
        began = time.perf_counter()
        work()
        return (time.perf_counter() - began) * 1000
    first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    first.record()
    work()
    last.record()
    settle(device)
    return float(first.elapsed_time(last))


def settle(device: torch.device) -> None:
    """Wait until a device has nothing more to do."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def breakdown(decoder: Decoder, shape: str, tokens: int, context: int, repeats: int, kind: str = "verify") -> Breakdown:
    """Return where a pass of so many tokens after so many goes, its times from passes that are not profiled."""
    target: Any = decoder.target
    profiled(lambda: torch.ones(1, device=target.device) + 1, target.device)  # begins to look before graphs are made
    work = (draft_pass if kind == "draft" else verify_pass)(target, decoder, tokens, context)
    for _ in range(3):  # the first captures, or compiles
        work()
    times = [timed(work, target.device) for _ in range(repeats)]
    passes = [profiled(work, target.device) for _ in range(max(1, repeats // 4))]
    grouped_passes = [grouped(launched) for launched in passes]
    groups = {name: statistics.fmean(times[name] for times in grouped_passes) for name in COLUMNS[:-1]}
    median = statistics.median(times)
    bandwidth = copy_bandwidth(target.device)
    return Breakdown(
        shape=shape,
        tokens=tokens,
        context=context,
        milliseconds=(median, min(times), max(times)),
        groups={**groups, WAITING: max(0.0, median - sum(groups.values()))},
        limit=None if bandwidth is None else 1000 * target.pass_bytes([context + tokens]) / bandwidth,
        kernels=len(passes[-1]),
        longest=longest(passes),
        kind=kind,
        outside=launched_outside(work, target.device),
    )


def longest(passes: Sequence[Sequence[Kernel]]) -> tuple[tuple[str, float, int], ...]:
    """Return the kernels that take most: names, mean milliseconds of all of a name in a pass, and how many."""
    spent, count = defaultdict[str, float](float), Counter[str]()
    for launched in passes:
        for kernel in launched:
            spent[kernel.name] += kernel.milliseconds / len(passes)
            count[kernel.name] += 1
    most = sorted(spent, key=lambda name: -spent[name])[:LONGEST]
    return tuple((name[:80], spent[name], count[name] // len(passes)) for name in most)


def verify_pass(target: Target, decoder: Decoder, tokens: int, length: int) -> Callable[[], object]:
    """Return a verify pass over an anchor and drafts after a prompt of this length; it can be run again and again."""
    context, steps = begun(target, replace(decoder, drafter=NoDrafter()), length)
    drafted = torch.ones(1, tokens - 1, dtype=torch.int64, device=target.device)
    draft = Draft(drafted, torch.full((1,), tokens - 1, device=target.device))
    return lambda: scored(target, context, draft, steps)


def draft_pass(target: Target, decoder: Decoder, tokens: int, length: int) -> Callable[[], object]:
    """Return all that the decoder's drafter does to propose after a prompt of this length, its pass among it."""
    context, steps = begun(target, decoder, length)
    return lambda: proposed(decoder, context, steps)


def proposed(decoder: Decoder, context: Context, steps: Iterator[object]) -> object:
    """Propose a draft; a block that was launched early is not this one's."""
    decoder.drafter.start(context, [0])
    return decoder.drafter.propose(context, orthrus.Chance(0))


def begun(target: Target, decoder: Decoder, length: int) -> tuple[Context, Iterator[object]]:
    """Return a decoding of which a prompt of this length and a token are committed, and a cycle's."""
    chooser = random.Random(0)
    context, steps = decoder.steps([chooser.choices(range(target.vocabulary_size), k=length)], 1)
    for _ in range(2):  # the prefill, and a cycle
        next(steps)
    return context, steps


def scored(target: Target, context: Context, draft: Draft, steps: Iterator[object]) -> object:
    """Score the draft; the decoding, which is not over, stays referred to, or its target would be free for another."""
    return target.score(context, draft)


def load(config: Path, shape: str | None, tokens: int, overrides: Sequence[str], draft: bool) -> Decoder:
    """Return the config's decoder at a shape, without drafts unless they are to be measured."""
    source = [f"target.source=shape:{shape}"] if shape else []
    drafter = [f"drafter.block={tokens}"] if draft else ["drafter.name=none"]
    return orthrus.load(config, dotted=[*source, *drafter, f"stop.max_new_tokens={3 * tokens + 2}", *overrides])


def rows(breakdowns: Sequence[Breakdown]) -> Iterator[str]:
    """Yield the lines of a table: a pass a line, milliseconds and shares of the groups."""
    told = any(breakdown.outside is not None for breakdown in breakdowns)  # results of before have it not
    more = " | outside graphs" if told else ""
    yield f"| shape | tokens | context | pass, ms | at copy bandwidth, ms | kernels{more} | {' | '.join(COLUMNS)} |"
    yield "|---" * (6 + told + len(COLUMNS)) + "|"
    for breakdown in breakdowns:
        median, low, high = breakdown.milliseconds
        limit = "" if breakdown.limit is None else f"{breakdown.limit:.3g}"
        shares = " | ".join(f"{breakdown.groups[name]:.3g} ({breakdown.groups[name] / median:.0%})" for name in COLUMNS)
        took = f"{median:.4g} ({low:.4g} to {high:.4g})"
        name = breakdown.shape if breakdown.kind == "verify" else f"{breakdown.shape}, {breakdown.kind}"
        counts = (
            f"{breakdown.kernels} | {'' if breakdown.outside is None else breakdown.outside}"
            if told
            else breakdown.kernels
        )
        yield f"| {name} | {breakdown.tokens} | {breakdown.context:,} | {took} | {limit} | {counts} | {shares} |"


def read(files: Sequence[Path]) -> list[dict[str, Any]]:
    """Return what those of the files hold that are there."""
    return [json.loads(file.read_text(encoding="utf-8")) for file in files if file.exists()]


def page_lines(files: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the lines of the benchmarks' introduction for what files of this program hold, one after the other."""
    what = (
        "Times of passes are the median, and in brackets the lowest and the highest one, of passes that begin when the"
        " device has nothing else to do. Those of groups are from torch's profiler, and in brackets their share of the"
        " median; `waiting` is what is left: on a GPU the host before the first kernel, and the gaps between kernels."
        " The head is the last projection. On a CPU `kernels` are torch's operations, each with the time spent in"
        " itself: the profiler's own time is among it, so that the shares may add up to more than the whole."
    )
    return [
        "",
        "## Where the time of a verify pass goes",
        "",
        what,
        "",
        *(line for file in files for line in told(file)),
    ]


def told(results: Mapping[str, Any]) -> Iterator[str]:
    """Yield what was measured on what, and the table."""
    threads = f", {results['threads']} threads" if "threads" in results else ""
    yield f"On {results['device']}{threads}, torch {results['torch']}, {results['date']}, by `{results['command']}`:"
    yield ""
    yield from rows([Breakdown(**entry) for entry in results["passes"]])
    yield ""


def page_text(text: str, lines: Sequence[str]) -> str:
    """Return the introduction with these lines in their place, at its end the first time."""
    before, _, after = text.partition(MARK)
    rest = after.partition(END)[2]
    return f"{before if after else text + chr(10)}{MARK}{chr(10).join(lines)}\n{END}{rest}"


def save(path: Path, device: torch.device, breakdowns: Sequence[Breakdown]) -> None:
    """Write what was found as JSON; of a CPU with how many threads computed."""
    command = "python docs/tools/pass_breakdown.py " + shlex.join(sys.argv[1:])
    ran = {"date": date.today().isoformat(), "device": device_name(device), "torch": torch.__version__}
    threads = {} if device.type == "cuda" else {"threads": torch.get_num_threads()}
    said = {**ran, **threads, "command": command.strip()}
    path.write_text(
        json.dumps({**said, "passes": [asdict(breakdown) for breakdown in breakdowns]}, indent=1) + "\n",
        encoding="utf-8",
    )


def arguments() -> argparse.Namespace:
    """Return what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, default=RECIPE, help="a run file; its limit is not used")
    parser.add_argument("--shape", nargs="+", default=[None], help="random weights of these shapes")
    parser.add_argument("--tokens", type=int, default=32, help="anchor and drafts of a pass")
    parser.add_argument("--context", type=int, nargs="+", default=[512], help="tokens before the pass")
    parser.add_argument("--repeats", type=int, default=20, help="passes that are timed")
    parser.add_argument("--draft", action="store_true", help="measure the config's drafter, too: its option is `block`")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="overrides of the config")
    parser.add_argument("--out", type=Path, help="a file for the values as JSON")
    parser.add_argument("--page", action="store_true", help="put the files in docs/ into the benchmarks' page")
    given = parser.parse_args()
    if min(given.tokens, given.repeats, *given.context) < 1:
        parser.error("--tokens, --repeats and --context take numbers from 1")
    return given


def main() -> None:
    """Measure every shape at every context, and print the table and the longest kernels."""
    given = arguments()
    if given.page:
        lines = page_lines(read(FOUND))
        INTRODUCTION.write_text(page_text(INTRODUCTION.read_text(encoding="utf-8"), lines), encoding="utf-8")
        return
    breakdowns: list[Breakdown] = []
    for shape in given.shape:
        decoder = load(given.config, shape, given.tokens, given.set, given.draft)
        name = shape or str(decoder.target.name)  # type: ignore[attr-defined]  # of the target `transformers`
        for context in given.context:
            for kind in ["verify", *(["draft"] if given.draft else [])]:
                breakdowns.append(breakdown(decoder, name, given.tokens, context, given.repeats, kind))
                if given.out:  # after each, so that an interrupted run leaves what it has
                    save(given.out, decoder.target.device, breakdowns)
        del decoder  # before the next is loaded
    print("\n".join(rows(breakdowns)))
    for measured in breakdowns:
        what = f"{measured.shape}, {measured.kind}, context {measured.context:,}"
        print(f"\n{what}: the longest kernels of a pass, ms (how many)")
        print("\n".join(f"{took:8.3f} ({count:3d})  {name}" for name, took, count in measured.longest))


if __name__ == "__main__":
    main()
