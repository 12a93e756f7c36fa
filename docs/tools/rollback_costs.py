"""Measure what it costs to take rejected drafts back from recurrent states, over the time of a pass; write the table.

python docs/tools/rollback_costs.py cuda        # at the shape of a model of half a billion parameters
python docs/tools/rollback_costs.py cpu         # at a smaller one
python docs/tools/rollback_costs.py --write     # the table into docs/explanation/caches.md

Weights are random: times depend on shapes alone. A pass is a scored draft of each row; half of it is accepted. Times
are medians, in milliseconds, and what is measured lies in docs/evidence/rollback-costs.json, by device.
"""

from __future__ import annotations

import json
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from orthrus import Context, Draft, Scheduler, Stop, Verdict
from orthrus_attention.sdpa import SdpaAttention
from orthrus_attention.split_kv import SplitAttention
from orthrus_caches.static import StaticCache
from orthrus_transformers.recurrent.recurrent_states import RecurrentStates
from orthrus_transformers.target import TransformersTarget

DOCS = Path(__file__).parents[1]
EVIDENCE = DOCS / "evidence" / "rollback-costs.json"
PAGE = DOCS / "explanation" / "caches.md"
BEGIN, END = "<!-- rollback costs -->\n", "<!-- end of rollback costs -->\n"
PROMPT, WARM, ROUNDS = 128, 5, 30
BAR = 0.15

# Of a model of half a billion parameters, the layers as published models of the family have them.
COMMON = {"vocab_size": 151_936, "hidden_size": 1024, "intermediate_size": 3584, "num_hidden_layers": 24}
HEADS = {"num_attention_heads": 8, "num_key_value_heads": 2, "head_dim": 256, "max_position_embeddings": 4096}
SHAPES: Mapping[str, Mapping[str, Any]] = {
    "qwen3_5_text": {
        **COMMON,
        **HEADS,
        "linear_num_key_heads": 16,
        "linear_num_value_heads": 16,
        "linear_key_head_dim": 128,
        "linear_value_head_dim": 128,
    },
    "falcon_h1": {
        **COMMON,
        **HEADS,
        "vocab_size": 32_784,
        "intermediate_size": 2048,
        "num_hidden_layers": 36,
        "head_dim": 64,
        "mamba_d_ssm": 1536,
        "mamba_n_heads": 24,
        "mamba_d_head": 64,
        "mamba_n_groups": 1,
        "mamba_d_state": 128,
    },
    "mamba": {"vocab_size": 50_280, "hidden_size": 1024, "num_hidden_layers": 48, "state_size": 16},
}
SMALLER = {"vocab_size": 8192, "num_hidden_layers": 8, "hidden_size": 512, "intermediate_size": 1024}
CASES = {"cuda": ((1, 4), (1, 8), (1, 16), (8, 8), (32, 4)), "cpu": ((1, 4), (1, 8), (4, 8))}  # rows, tokens of a pass


def measured(device: str) -> Iterator[dict[str, Any]]:
    """Yield the times of every shape and case on a device."""
    for family, settings in SHAPES.items():
        target = made(family, settings, device)
        for rows, tokens in CASES[device]:
            pass_ms, rollback_ms = times(target, rows, tokens)
            states = target.recurrent
            assert states is not None, "all of these families have recurrent layers"
            yield {
                "family": family,
                "parameters": parameters(target),
                "rows": rows,
                "tokens": tokens,
                "pass_ms": round(pass_ms, 3),
                "rollback_ms": round(rollback_ms, 3),
                "MiB a row": round(states.bytes_of_row() / 2**20, 1),
                **{key: target.report()[key] for key in ("layers", "recurrent")},
                "captured": target.report().get("captured", False),
            }


def made(family: str, settings: Mapping[str, Any], device: str) -> TransformersTarget:
    """Return a target with random weights."""
    from transformers import CONFIG_MAPPING, AutoModelForCausalLM

    sizes = {**settings, **(SMALLER if device == "cpu" else {})}
    config = CONFIG_MAPPING[family](**sizes, eos_token_id=None, pad_token_id=None)
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    torch.manual_seed(0)
    with torch.device(device):
        model = (
            AutoModelForCausalLM.from_config(config, dtype=dtype, trust_remote_code=False).eval().requires_grad_(False)
        )
    attention = SplitAttention() if device == "cuda" else SdpaAttention()
    return TransformersTarget(model, None, StaticCache(), attention)


def times(target: TransformersTarget, rows: int, tokens: int) -> tuple[float, float]:
    """Return the milliseconds of a pass over so many tokens of each row, and of taking half of them back."""
    prompts = [[(row + place) % target.vocabulary_size for place in range(PROMPT)] for row in range(rows)]
    context = Context(prompts, Stop(4 * tokens), vocabulary_size=target.vocabulary_size, device=target.device)
    target.start(context)
    scheduler = Scheduler(context)
    target.prefill(context, scheduler.refill())
    nothing = torch.zeros_like(context.lengths)
    target.keep(scheduler.commit(context.empty_draft(), Verdict(nothing, nothing)))
    draft = Draft(torch.ones(rows, tokens - 1, dtype=torch.int64, device=target.device), nothing + tokens - 1)
    states, accepted = target.recurrent, nothing + target.cache.lengths + tokens // 2
    assert isinstance(states, RecurrentStates), "the model has recurrent layers"
    passes, rollbacks = [], []
    for _ in range(WARM + ROUNDS):
        passes.append(timed(lambda: target.score(context, draft), target.device))
        rollbacks.append(timed(lambda: states.keep(accepted), target.device))
    return statistics.median(passes[WARM:]), statistics.median(rollbacks[WARM:])


def timed(action: Callable[[], object], device: torch.device) -> float:
    """Return the milliseconds that an action takes, to its end on the device."""
    synchronize(device)
    start = time.perf_counter()
    action()
    synchronize(device)
    return 1000 * (time.perf_counter() - start)


def synchronize(device: torch.device) -> None:
    """Wait for all that was launched."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def parameters(target: TransformersTarget) -> int:
    """Return how many weights the model has."""
    with target.own_model() as model:
        return sum(weight.numel() for weight in model.parameters())


def machine(device: str) -> str:
    """Return what was measured on."""
    name = torch.cuda.get_device_name() if device == "cuda" else f"{torch.get_num_threads()} threads of {cpu()}"
    return f"{name}, torch {torch.__version__}, transformers {version('transformers')}"


def cpu() -> str:
    """Return the name of the processor."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines() if Path("/proc/cpuinfo").is_file() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def table(content: Mapping[str, Any]) -> list[str]:
    """Return the lines of the tables, one table a device."""
    lines = []
    for device in sorted(content):
        lines += [f"On {content[device]['machine']}, {'bfloat16' if device == 'cuda' else 'float32'}:", ""]
        lines += ["| family | parameters | rows | tokens of a pass | state MiB a row | pass ms | rollback ms | ratio |"]
        lines += ["|---|---|---|---|---|---|---|---|", *map(row, content[device]["times"]), ""]
    return lines


def row(times_of_case: Mapping[str, Any]) -> str:
    """Return one line of a table."""
    ratio = times_of_case["rollback_ms"] / times_of_case["pass_ms"]
    cells = (
        f"`{times_of_case['family']}`",
        f"{times_of_case['parameters'] / 1e6:,.0f} million",
        times_of_case["rows"],
        times_of_case["tokens"],
        times_of_case["MiB a row"],
        times_of_case["pass_ms"],
        times_of_case["rollback_ms"],
        f"{ratio:.2f}",
    )
    return f"| {' | '.join(map(str, cells))} |"


def page(text: str) -> str:
    """Return a page with the tables of what was measured in the place of those there."""
    content = json.loads(EVIDENCE.read_text(encoding="utf-8"))
    before, _, rest = text.partition(BEGIN)
    return before + BEGIN + "\n".join(table(content)) + END + rest.partition(END)[2]


def main(arguments: Sequence[str]) -> None:
    """Measure on a device, or write the table."""
    if arguments == ["--write"]:
        PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
        return
    content = json.loads(EVIDENCE.read_text(encoding="utf-8")) if EVIDENCE.is_file() else {}
    [device] = arguments
    results = []
    for result in measured(device):
        results.append(result)
        print(json.dumps(result), flush=True)
        content[device] = {"machine": machine(device), "times": results}
        EVIDENCE.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
