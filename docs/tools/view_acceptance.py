"""Measure how much of a diffusion view's drafts is accepted: tokens per cycle of greedy decoding, prompt file by file.

python docs/tools/view_acceptance.py --config configs/recipes/smollm2-diffusion.yaml --prompts mt_bench.jsonl \
    gsm8k.jsonl --block 16 8 --out acceptance.json target.dtype=bfloat16
python docs/tools/view_acceptance.py --config ... --view runs/mine/view --storage-compare --prompts ...
python docs/tools/view_acceptance.py --config ... --tree 0 32 64 --successor true false --prompts ...

The last arguments are overrides of the config. The bonus token of a cycle counts, the prefill's token does not. A model
that repeats itself is easily drafted, so answers that ended by themselves are also counted alone (`ended_...`).
--storage-compare measures a view's weights as they are kept, and then rounded to int8. --tree 0 drafts a chain.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

import orthrus
from orthrus import InputError, OrthrusError, Parts, Result, read_prompts, summarize
from orthrus.machine import environment
from orthrus_diffusion.view_files.config import read_config
from orthrus_diffusion.view_files.formats import base_fingerprint
from orthrus_diffusion.view_files.quantization import dequantized, quantized
from orthrus_diffusion.view_files.shipped import find_view, shipped_for

BAD_INPUT = 2


def figures(results: Sequence[Result]) -> dict[str, Any]:
    """Return tokens per cycle, pooled and per prompt, of all answers and of those that ended by themselves."""
    ended = [result for result in results if result.finish_reason == "stop_token"]
    every, alone = (summarize([result.measures for result in some]).tokens_per_cycle for some in (results, ended))
    return {
        "pooled": every.pooled,
        "per_prompt": every.per_prompt,
        "ended_pooled": alone.pooled,
        "ended_per_prompt": alone.per_prompt,
        "ended": len(ended) / len(results),
        "prompts": len(results),
    }


def measure(decoder: Any, files: Sequence[Path], limit: int | None, batch: int) -> dict[str, Any]:
    """Return the figures of every prompt file, by its stem, and of all of them."""
    every: list[Result] = []
    by_name: dict[str, Any] = {}
    for file in files:
        begun = time.perf_counter()
        results = decoder.generate([record.prompt for record in read_prompts(file, limit)], batch=batch)
        by_name[file.stem] = {**figures(results), "seconds": time.perf_counter() - begun}
        every += results
    return {**by_name, "all": figures(every)}


def round_views(target: Any) -> None:
    """Round the weights of every attached view to what int8 storage keeps of them, in place."""
    with torch.no_grad():
        for name in target.view_names:
            weights = target.view_weights(name)
            rounded = quantized(weights)
            for key, value in dequantized(rounded, rounded, "the view").items():
                weights[key].copy_(value)


def measurements(given: argparse.Namespace) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield what was measured, by storage and block, and then what it ran on; raise OrthrusError for bad input."""
    target = drafting(given, given.block[0]).target
    values = read_config(place_of(given.view, target))
    storages = [str(values.get("storage", "float"))]
    if given.storage_compare and storages == ["int8"]:
        raise InputError("--storage-compare: the view is kept as int8 already; give one whose storage is float")
    for storage in [*storages, *(["int8"] if given.storage_compare else [])]:
        if storage not in storages:
            round_views(target)
        for block, tree, successor in itertools.product(given.block, given.tree, given.successor):
            decoder = drafting(given, block, target, tree=tree or None, successor=successor)
            label = f"{storage}, block {block or values['block_size']}"
            label += f", tree of {tree}" if tree else ""
            label += "" if successor else ", without its successor head"
            yield label, measure(decoder, given.prompts, given.limit, given.batch)
    settings = {"batch": given.batch, "max_new_tokens": given.max_new_tokens, "overrides": given.overrides}
    yield "environment", {**environment({target.device: None}), **settings, "model": target.name}


def drafting(given: argparse.Namespace, block: int | None, target: Any = None, **options: Any) -> Any:
    """Return a greedy decoder of the config whose drafter is the view; a target that is given keeps its views."""
    drafter = {"name": "diffusion", "block": block, "view": given.view, **options}
    sections = {"drafter": drafter, "verifier": "consensus", "sampling": {"temperature": 0}}
    stop = {"max_new_tokens": given.max_new_tokens}
    if target is None:
        return orthrus.load(given.config, dotted=given.overrides, stop=stop, **sections)
    rest = [text for text in given.overrides if not text.startswith(("target.", "attention.", "cache."))]
    return orthrus.load(given.config, dotted=rest, stop=stop, target=target, **sections)


def place_of(view: str | None, target: Any) -> Path:
    """Return the directory of the view that drafts: the one that is named, the target's own or the shipped one."""
    if view is not None:
        return find_view(view, Parts(target=target))
    shipped = shipped_for(base_fingerprint(target))
    return shipped or target.directory


def _truth(text: str) -> bool:
    if text not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"'{text}' is neither true nor false")
    return text == "true"


def arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Return what the command line says."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--view", help="as drafter.view: a directory, a hub id or a shipped view's name")
    parser.add_argument("--block", type=int, nargs="+", default=[None], help="one or several; else as trained")
    parser.add_argument("--tree", type=int, nargs="+", default=[0], help="tokens of a tree, one or several; 0: a chain")
    parser.add_argument(
        "--successor", type=_truth, nargs="+", default=[True], help="true, false or both: whether its head is used"
    )
    parser.add_argument("--storage-compare", action="store_true", help="measure again with weights rounded to int8")
    parser.add_argument("--prompts", type=Path, nargs="+", required=True, help="prompt files (JSONL)")
    parser.add_argument("--limit", type=int, help="the first so many prompts of each file")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--max-new-tokens", type=int, default=256)
    parser.add_argument("--out", type=Path, help="write the figures here; written anew after each measurement")
    given, overrides = parser.parse_known_args(words)
    for text in overrides:
        if text.startswith("-") or "=" not in text:
            parser.error(f"unknown argument '{text}'; overrides are key=value")
    given.overrides = overrides
    return given


def main(words: Sequence[str] | None = None) -> None:
    """Measure, and print and write what was found."""
    given = arguments(words)
    by_name: dict[str, Any] = {}
    try:
        for label, values in measurements(given):
            by_name[label] = values
            if given.out:
                given.out.write_text(json.dumps(by_name, indent=1) + "\n", encoding="utf-8")
    except OrthrusError as error:
        print(f"view_acceptance: error: {error}", file=sys.stderr)
        sys.exit(BAD_INPUT)
    print(json.dumps(by_name, indent=1))


if __name__ == "__main__":
    main()
