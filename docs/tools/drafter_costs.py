"""Print what drafters that read hidden states cost beside a pass that verifies, in the shape of a published model.

python docs/tools/drafter_costs.py --shape qwen3-8b --out costs.json

Weights are random, so nothing is accepted and every cycle is alike: a draft, and what is made of the states of the
cycle before, over the pass that scores as many tokens. Times are of the GPU, by events, medians over the cycles.
Where the package `dflash` is installed, its draft is timed in turn with ours.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections import defaultdict
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from reference_dflash import reference_draft_ms

import orthrus
from orthrus import Decoder, Stop
from orthrus.drafter_models.rotary import Rotary
from orthrus.machine import versions
from orthrus_dflash.config import DFlashConfig, LayerKind
from orthrus_dflash.drafter import DFlash
from orthrus_dflash.model import DFlashModel
from orthrus_dflash.weights import expected_shapes as dflash_shapes
from orthrus_eagle3.config import Eagle3Config
from orthrus_eagle3.drafter import Eagle3
from orthrus_eagle3.model import Eagle3Model
from orthrus_eagle3.weights import expected_shapes as eagle3_shapes

Timed = dict[str, list[tuple[torch.cuda.Event, torch.cuda.Event]]]


def timed(times: Timed, name: str, work: Callable[..., Any]) -> Callable[..., Any]:
    """Return the work with its time on the GPU noted."""

    def inner(*given: Any, **named: Any) -> Any:
        began, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        began.record()
        result = work(*given, **named)
        ended.record()
        times[name].append((began, ended))
        return result

    return inner


def random_weights(shapes: dict[str, tuple[int, ...]], like: torch.dtype) -> dict[str, torch.Tensor]:
    """Return random tensors of these shapes; of a map between vocabularies the first ids."""
    tensors = {name: torch.randn(shape, device="cuda", dtype=like) * 0.02 for name, shape in shapes.items()}
    if "d2t" in tensors:
        tensors["d2t"] = torch.zeros(shapes["d2t"], dtype=torch.int64, device="cuda")
    return tensors


def sizes_of(target: Any, config: Any) -> dict[str, Any]:
    """Return what both kinds take over from the target's config."""
    return {
        "hidden_size": target.hidden_size,
        "intermediate_size": config["intermediate_size"],
        "heads": config["num_attention_heads"],
        "key_heads": config["num_key_value_heads"],
        "head_size": config.get("head_dim", target.hidden_size // config["num_attention_heads"]),
        "epsilon": 1e-6,
        "rotary": Rotary(1e6),
        "vocabulary_size": target.vocabulary_size,
    }


def dflash_of(target: Any, config: Any, block: int, layers: int) -> DFlash:
    """Return a drafter of random weights with so many layers and as many taps."""
    count = target.layer_count
    taps = tuple(round(2 + index * (count - 4) / (layers - 1)) for index in range(layers))
    own = DFlashConfig(
        "z-lab", layers=(LayerKind(),) * layers, taps=taps, block=block, mask_token_id=1, **sizes_of(target, config)
    )
    return DFlash(target, DFlashModel(own, random_weights(dflash_shapes(own), target.dtype)), block)


def eagle3_of(target: Any, config: Any, length: int, vocabulary: int) -> Eagle3:
    """Return a head of random weights that knows so many tokens."""
    count = target.layer_count
    own = Eagle3Config(
        "SafeAILab",
        target_hidden_size=target.hidden_size,
        draft_vocabulary_size=vocabulary,
        taps=(2, count // 2, count - 3),
        **sizes_of(target, config),
    )
    return Eagle3(target, Eagle3Model(own, random_weights(eagle3_shapes(own), target.dtype)), length)


def costs_of(target: Any, drafter: Any, verifier: Any, context: int, cycles: int) -> dict[str, float]:
    """Return medians in milliseconds of a draft, of reading taps, and of the pass that scores."""
    times: Timed = defaultdict(list)
    scoring = {name: getattr(target, name) for name in ("score", "score_choices")}  # decoding takes one or the other
    drafter.read_taps, drafter.propose = (
        timed(times, "read_taps", drafter.read_taps),
        timed(times, "draft", drafter.propose),
    )
    vars(target).update({name: timed(times, "score", method) for name, method in scoring.items()})
    try:
        prompt = [1000 + 7 * place for place in range(context)]
        decoder = Decoder.of(target, drafter, verifier, Stop(cycles, min_new_tokens=cycles))
        for _ in range(2):
            times.clear()
            decoder.generate([prompt], batch=1)
        torch.cuda.synchronize()
    finally:
        for name in scoring:
            delattr(target, name)
    medians = {
        name: statistics.median(began.elapsed_time(ended) for began, ended in pairs[len(pairs) // 4 : -20])
        for name, pairs in times.items()
    }
    return {name: round(value, 4) for name, value in medians.items()} | {
        "share_of_score": round((medians["draft"] + medians["read_taps"]) / medians["score"], 4)
    }


def main() -> None:
    """Measure both kinds, in turns, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", default="qwen3-8b")
    parser.add_argument("--context", type=int, default=512)
    parser.add_argument("--cycles", type=int, default=120)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    settings: dict[str, Any] = {
        "target": {"name": "transformers", "source": f"shape:{arguments.shape}", "dtype": "bfloat16", "device": "cuda"},
        "cache": {"name": "static", "slots": 1024},
        "attention": {"name": "split"},
        "drafter": {"name": "none"},
    }
    decoder = orthrus.load(settings)
    target: Any = decoder.target
    config = json.loads((target.directory / "config.json").read_text(encoding="utf-8"))
    rounds: dict[str, list[dict[str, float]]] = {"dflash": [], "eagle3": []}
    for _ in range(arguments.rounds):
        for name, drafter in (
            ("dflash", dflash_of(target, config, 16, 5)),
            ("eagle3", eagle3_of(target, config, 5, 32_000)),
        ):
            rounds[name].append(costs_of(target, drafter, decoder.verifier, arguments.context, arguments.cycles))
        if find_spec("dflash"):
            draft = reference_draft_ms(target, config, 5, 16, arguments.context, arguments.cycles)
            ours = rounds["dflash"][-1]
            share = round((ours["draft"] + ours["read_taps"]) / draft, 4)
            rounds.setdefault("dflash_reference", []).append({"draft": draft, "ours_over_it": share})
    facts = {**vars(arguments), "out": None, **versions(target.device), "milliseconds": rounds}
    text = json.dumps(facts, indent=1)
    print(text)
    if arguments.out:
        arguments.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
