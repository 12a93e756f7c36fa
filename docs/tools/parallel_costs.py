r"""Measure a model that several GPUs of a host share against one that a GPU has alone; write the values as JSON.

python docs/tools/parallel_costs.py --out docs/evidence/parallel-costs.json
python docs/tools/parallel_costs.py --parts passes-nccl large-nccl --ranks 2 --seconds 400 --out parallel.json

Each part runs in processes of its own, one a GPU, as torchrun starts them, so that one that fails leaves the others'
values. What is compared takes turns in one run: rank 0 has the whole model beside its part, and alone runs its passes
while the others wait. The last part is of a model that no GPU of 141 GB holds.
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import os
import shlex
import socket
import statistics
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import torch
from parallel_sums import collectives, milliseconds

import orthrus
from orthrus import Context, Decoder, Draft
from orthrus.bench.bandwidth import copy_bandwidth
from orthrus.choices import score_choices_of
from orthrus.machine import synchronize, versions
from orthrus.ranks.group import RankGroup, join
from orthrus.terminal import echo

RECIPE = Path(__file__).parents[2] / "configs" / "recipes" / "qwen3-8b-shape.yaml"
VIEW = ["drafter.name=diffusion", "drafter.view=copies"]
SMALL = "target.source=shape:qwen3-0.6b"
STACKS = 8  # seconds before the limit of a part, when its processes say where they are
SHOWN = 6000  # letters of what a part that failed wrote


def in_turns(
    group: RankGroup, device: torch.device, rounds: int, repeats: int, **actions: tuple[bool, Callable[[], object]]
) -> dict[str, list[float]]:
    """Return the milliseconds of each action in each round, after one that does not count.

    Those that are marked are rank 0's alone; the others wait on the host meanwhile.
    """
    taken: dict[str, list[float]] = {name: [] for name in actions}
    for number in range(rounds + 1):
        for name, (alone, work) in actions.items():
            group.wait()
            spent = milliseconds(work, device, repeats) if group.leads or not alone else 0.0
            group.wait()
            if number:
                taken[name].append(spent)
    return taken


def told(taken: Sequence[float]) -> dict[str, float]:
    """Return the median, the lowest and the highest."""
    return {"median": statistics.median(taken), "lowest": min(taken), "highest": max(taken)}


def prompt_of(decoder: Decoder, length: int) -> list[int]:
    """Return a prompt of so many tokens."""
    return [1000 + index * 7919 % (decoder.target.vocabulary_size - 1000) for index in range(length)]


def verify_pass(decoder: Decoder, tokens: int, length: int) -> Callable[[], object]:
    """Return a verify pass over an anchor and drafts after a prompt of this length, up to the tokens that it chooses.

    It can be run again and again.
    """
    context, steps = begun(decoder, length)
    drafted = torch.ones(1, tokens - 1, dtype=torch.int64, device=decoder.target.device)
    draft = Draft(drafted, torch.full((1,), tokens - 1, device=decoder.target.device))
    draft = draft if tokens > 1 else context.empty_draft()
    target, choose = decoder.target, score_choices_of(decoder.target)
    if choose is not None:
        return lambda: (choose(context, draft), steps)
    return lambda: (target.score(context, draft).argmax(-1), steps)


def begun(decoder: Decoder, length: int) -> tuple[Context, Any]:
    """Return a decoding of which a prompt of this length and a token are committed, and a cycle's."""
    context, steps = decoder.steps([prompt_of(decoder, length)], 1)
    for _ in range(2):  # the prefill, and a cycle
        next(steps)
    return context, steps


def cycles(decoder: Decoder, count: int, length: int) -> Callable[[], object]:
    """Return so many cycles after a prompt of this length, its prefill apart: begun anew each time."""

    def run() -> float:
        _, steps = decoder.steps([prompt_of(decoder, length)], 1)
        next(steps)
        next(steps)
        synchronize(decoder.target.device)
        began = time.perf_counter()
        for _ in range(count):
            next(steps)
        synchronize(decoder.target.device)
        return 1000 * (time.perf_counter() - began) / count

    return run


def cycles_in_turns(
    group: RankGroup, rounds: int, **decoders: tuple[bool, Decoder | None, int]
) -> dict[str, list[float]]:
    """Return the milliseconds of a cycle of each decoder in each round; those marked are rank 0's alone."""
    taken: dict[str, list[float]] = {name: [] for name in decoders}
    for number in range(rounds + 1):
        for name, (alone, decoder, length) in decoders.items():
            group.wait()
            spent = 0.0
            if decoder is not None and (group.leads or not alone):
                spent = float(cycles(decoder, 16, length)())  # type: ignore[arg-type]  # the time of one
            group.wait()
            if number:
                taken[name].append(spent)
    return taken


def load(overrides: Sequence[str], device: str, ranks: int = 1, sums: str = "auto") -> Decoder:
    """Return the recipe's decoder, of which this process has a part if there are several ranks."""
    shared = [f"target.parallel={ranks}", f"target.sums={sums}"] if ranks > 1 else []
    return orthrus.load(RECIPE, dotted=[*overrides, f"target.device={device}", *shared], notify=partial(echo, err=True))


class Values(dict[str, Any]):
    """Values by name, each of which the lead prints when it is known: one that takes too long leaves the others."""

    def __init__(self, leads: bool) -> None:
        super().__init__()
        self._leads = leads

    def __setitem__(self, name: str, value: Any) -> None:
        super().__setitem__(name, value)
        if self._leads:
            echo(json.dumps({name: value}))
            sys.stdout.flush()


def passes(group: RankGroup, sums: str) -> dict[str, Any]:
    """Return times and memory of Qwen3-8B's shape at batch 1, context 512: alone, shared, and their ratios."""
    device, found = torch.device("cuda", group.local_rank), Values(group.leads)
    plain = [*VIEW, "drafter.block=32", "stop.max_new_tokens=700"]
    alone = load(plain, str(device)) if group.leads else None
    if alone is not None:
        torch.cuda.reset_peak_memory_stats()
        _warm(alone)
        found["memory alone, GiB"] = torch.cuda.max_memory_allocated() / 2**30
        torch.cuda.reset_peak_memory_stats()
    held = torch.cuda.memory_allocated()
    group.wait()
    began = time.perf_counter()
    shared = load(plain, "cuda", group.count, sums)
    found["seconds to load"] = time.perf_counter() - began
    found["memory at load, GiB"] = group.told((torch.cuda.max_memory_allocated() - held) / 2**30)
    torch.cuda.reset_peak_memory_stats()
    _warm(shared)
    found["memory shared, GiB"] = group.told((torch.cuda.max_memory_allocated() - held) / 2**30)
    free, total = torch.cuda.mem_get_info()
    found["memory of the device in use, GiB"] = group.told((total - free) / 2**30)
    if alone is not None:
        found["memory ratio"] = max(found["memory shared, GiB"]) / found["memory alone, GiB"]
    found["engine"] = dict(shared.target.report())  # type: ignore[attr-defined]  # it reports
    found["texts"] = _texts(group, alone, shared)
    for tokens in (32, 1):
        works = {"shared": (False, verify_pass(_without_drafts(shared), tokens, 512))}
        works["alone"] = (True, verify_pass(_without_drafts(alone), tokens, 512) if alone else lambda: None)
        found[f"verify pass of {tokens}, ms"] = _ratio(in_turns(group, device, 7, 20, **works))
    decoders = {"alone": (True, alone, 512), "shared": (False, shared, 512)}
    found["cycle of the view, block 32, ms"] = _ratio(cycles_in_turns(group, 5, **decoders))
    return found


def _ratio(taken: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    alone, shared = taken["alone"], taken["shared"]
    ratios = [mine / whole for mine, whole in zip(shared, alone, strict=True)] if all(alone) else [0.0]
    return {"alone": told(alone), "shared": told(shared), "ratio": told(ratios)}


def kernels(group: RankGroup, sums: str) -> dict[str, Any]:
    """Return where a verify pass's and a draft's time goes, alone and shared."""
    sys.path.insert(0, str(Path(__file__).parent))
    import parallel_kernels

    device, found = torch.device("cuda", group.local_rank), {}
    parallel_kernels.begin(device)  # before graphs are made
    options = [*VIEW, "drafter.block=32", "stop.max_new_tokens=700"]
    alone = load(options, str(device)) if group.leads else None
    group.wait()
    shared = load(options, "cuda", group.count, sums)
    for name, tokens in (("verify pass of 32", 32), ("draft of the view", 0)):
        seen = {}
        if alone is not None:
            seen["alone"] = parallel_kernels.seen(_pass_of(alone, tokens), device)
        group.wait()
        seen["shared"] = parallel_kernels.seen(_pass_of(shared, tokens), device)
        group.wait()
        if group.leads:
            found.setdefault("table", []).extend([f"--- {name}", *parallel_kernels.beside(**seen)])
        found[name] = seen
    return found


def _pass_of(decoder: Decoder, tokens: int) -> Callable[[], object]:
    """Return a verify pass over so many tokens; 0: what the drafter does to propose."""
    if tokens:
        return verify_pass(_without_drafts(decoder), tokens, 512)
    context, steps = begun(decoder, 512)

    def propose() -> object:
        decoder.drafter.start(context, [0])  # a block that was launched early is not this one's
        return decoder.drafter.propose(context, orthrus.Chance(0)), steps

    return propose


def _warm(decoder: Decoder) -> None:
    decoder.generate([prompt_of(decoder, 512)], batch=1)


def _without_drafts(decoder: Decoder) -> Decoder:
    from orthrus_drafters.none import NoDrafter

    return replace(decoder, drafter=NoDrafter())


def _texts(group: RankGroup, alone: Decoder | None, shared: Decoder) -> dict[str, Any]:
    """Return whether the texts are the same, and whether a token's logits depend on how many others are in a pass."""
    prompts = [prompt_of(shared, length) for length in (5, 512)]
    mine = [result.token_ids for result in shared.generate(prompts, batch=1)]
    found: dict[str, Any] = {"ranks are alike": len(set(map(str, group.told(mine)))) == 1}
    if alone is not None:
        found["as alone"] = mine == [result.token_ids for result in alone.generate(prompts, batch=1)]
    context, steps = begun(_without_drafts(shared), 512)
    drafted = torch.ones(1, 31, dtype=torch.int64, device=shared.target.device)
    wide = shared.target.score(context, Draft(drafted, torch.full((1,), 31, device=drafted.device)))[:, 0].clone()
    narrow = shared.target.score(context, context.empty_draft())[:, 0]
    found["a pass of 32 and one of 1 differ by"] = float((wide - narrow).abs().max())
    del steps
    return found


def large(group: RankGroup, sums: str) -> dict[str, Any]:
    """Return what Llama-3.1-70B's shape takes, which no GPU holds alone."""
    device = torch.device("cuda", group.local_rank)
    found: dict[str, Any] = {}
    began = time.perf_counter()
    more = ["target.source=shape:llama-3.1-70b", *VIEW, "drafter.block=16", "stop.max_new_tokens=96"]
    shared = load(more, "cuda", group.count, sums)
    found["seconds to load"] = time.perf_counter() - began
    found["memory at load, GiB"] = group.told(torch.cuda.max_memory_allocated() / 2**30)
    torch.cuda.reset_peak_memory_stats()
    prompt = prompt_of(shared, 512)
    texts = shared.generate([prompt], batch=1)[0].token_ids
    expected = tuple((prompt[-1] + 1 + index) % shared.target.vocabulary_size for index in range(len(texts)))
    found["text is what the weights say"] = texts == expected
    plain = _without_drafts(shared)
    found["text without drafts is the same"] = plain.generate([prompt], batch=1)[0].token_ids == texts
    found["memory in use at most, GiB"] = group.told(torch.cuda.max_memory_allocated() / 2**30)
    bandwidth = copy_bandwidth(device)
    for tokens in (1, 16):
        taken = in_turns(group, device, 5, 10, shared=(False, verify_pass(plain, tokens, 512)))["shared"]
        read = shared.target.pass_bytes([512 + tokens])  # type: ignore[attr-defined]  # of this rank's part
        limit = None if bandwidth is None else 1000 * read / bandwidth
        found[f"verify pass of {tokens}, ms"] = {**told(taken), "bytes of a rank": read, "at copy bandwidth": limit}
        if limit:
            found[f"verify pass of {tokens}, ms"]["over the limit"] = statistics.median(taken) / limit
    found["copy bandwidth, GB/s"] = None if bandwidth is None else bandwidth / 1e9
    found["cycle of the view, block 16, ms"] = told(cycles_in_turns(group, 3, shared=(False, shared, 512))["shared"])
    return found


def certified(group: RankGroup, sums: str) -> dict[str, Any]:
    """Return whether runs of Qwen3-0.6B's shape in bfloat16 are certified, as `orthrus verify` does it."""
    from orthrus.config.compose import read_overrides
    from orthrus.config.schema import load_config
    from orthrus.registry.plugins import Plugins
    from orthrus.verification.certifier import Asked, Runs

    plugins = Plugins.load()
    shared = [f"target.parallel={group.count}", f"target.sums={sums}", SMALL]
    more = [*shared, *VIEW, "drafter.block=8", "stop.max_new_tokens=48"]
    config = load_config(RECIPE, [read_overrides(more)], plugins)
    plain = load_config(RECIPE, [read_overrides([*shared, "drafter.name=none", "stop.max_new_tokens=48"])], plugins)
    prompts = [(str(number), [1 + number * 37 % 1000 + index for index in range(20 + number)]) for number in range(12)]
    runs = Runs(plugins, prompts)
    asked = Asked("view", config, plain, 4)
    runs.prepare(config)
    runs.decode(config, 4, lambda _: None)
    for reference, result in runs.answers([asked]):
        reference.judge(result)
    certificate = runs.certify(asked, 0)
    return {"prompts": certificate.prompts, "certified": certificate.certified, "tokens": certificate.tokens}


PARTS: Mapping[str, tuple[Callable[[RankGroup, str], dict[str, Any]], str, int]] = {  # what, sums, seconds at most
    "passes-nccl": (passes, "nccl", 180),
    "collectives-nccl": (collectives, "nccl", 60),
    "collectives-joined": (collectives, "joined", 60),
    "collectives-fused": (collectives, "fused", 60),
    "passes-joined": (passes, "joined", 180),
    "passes-fused": (passes, "fused", 180),
    "large-nccl": (large, "nccl", 120),
    "collectives-direct": (collectives, "direct", 60),
    "certified-nccl": (certified, "nccl", 60),
    "certified-joined": (certified, "joined", 60),
    "certified-fused": (certified, "fused", 60),
    "kernels-joined": (kernels, "joined", 100),
    "kernels-fused": (kernels, "fused", 100),
    "kernels-nccl": (kernels, "nccl", 100),
    "passes-direct": (passes, "direct", 110),
    "large-joined": (large, "joined", 120),
}


def work(part: str, out: Path) -> None:
    """Run a part as one of its ranks; rank 0 writes what it gives."""
    group = join()
    assert group is not None, "the ranks were started together"
    torch.cuda.set_device(group.local_rank)
    measure, sums, limit = PARTS[part]
    faulthandler.dump_traceback_later(max(1, limit - STACKS), exit=False)  # of one that hangs, before it is ended
    began = time.perf_counter()
    try:
        found = measure(group, sums)
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)  # the other ranks' watch ends them
    if group.leads:
        out.write_text(json.dumps({**found, "seconds": time.perf_counter() - began}), encoding="utf-8")
        echo(json.dumps(found, indent=1))


def run_part(part: str, ranks: int, folder: Path, seconds: float) -> dict[str, Any]:
    """Return what a part gives, or what went wrong, after so many seconds at most."""
    out = folder / f"{part}.json"
    out.unlink(missing_ok=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes, logs = [], []
    for rank in range(ranks):
        places = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": ranks, "LOCAL_WORLD_SIZE": ranks}
        variables = {name: str(value) for name, value in {**places, "MASTER_PORT": port}.items()}
        quiet = {"MASTER_ADDR": "127.0.0.1", "NCCL_NVLS_ENABLE": "0", "TORCH_SYMM_MEM_DISABLE_MULTICAST": "1"}
        log = (folder / f"{part}-{rank}.log").open("w+", encoding="utf-8")
        command = [sys.executable, __file__, "--worker", part, "--out", str(out)]
        environment = {"GLOO_SOCKET_IFNAME": "lo", **os.environ, **variables, **quiet}  # one host's
        processes.append(subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT))
        logs.append(log)
    until, late = time.monotonic() + seconds, False
    for process in processes:
        try:
            process.wait(max(0.1, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            late = True
    for process in processes:
        process.kill()
        process.wait()
    codes, written = [process.returncode for process in processes], []
    for log in logs:
        log.seek(0)
        written.append(log.read()[-SHOWN:])
        log.close()
    if out.exists():
        return dict(json.loads(out.read_text(encoding="utf-8")))
    for rank, text in enumerate(written):
        echo(f"--- {part}, rank {rank}, code {codes[rank]}{', too late' if late else ''}\n{text}")
    return {"failed": "it took too long" if late else f"exit codes {codes}", "last words": written[0][-1500:]}


def arguments() -> argparse.Namespace:
    """Return what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS), help="what is measured")
    parser.add_argument("--ranks", type=int, default=2, help="processes, one a GPU")
    parser.add_argument("--seconds", type=float, default=450.0, help="after which no further part is begun")
    parser.add_argument("--out", type=Path, required=True, help="a file for the values as JSON")
    parser.add_argument("--worker", choices=list(PARTS), help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    """Run the parts one after the other; write what is known after each."""
    asked = arguments()
    if asked.worker:
        work(asked.worker, asked.out)
        return
    folder = asked.out.parent
    folder.mkdir(parents=True, exist_ok=True)
    command = "python docs/tools/parallel_costs.py " + shlex.join(sys.argv[1:])
    said = {"date": date.today().isoformat(), "ranks": asked.ranks, "command": command}
    results: dict[str, Any] = {**said, **versions(torch.device("cuda", 0)), "parts": {}}
    began = time.monotonic()
    for part in asked.parts:
        left = asked.seconds - (time.monotonic() - began)
        if left < 20:
            results["parts"][part] = {"failed": "no time was left"}
            continue
        echo(f"=== {part}, {left:.0f} s left")
        results["parts"][part] = run_part(part, asked.ranks, folder, min(left, PARTS[part][2]))
        shown = results["parts"][part]
        echo("\n".join(shown["table"]) if "table" in shown else json.dumps(shown)[:3000])
        asked.out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
