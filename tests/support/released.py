"""A released checkpoint, the plain model that it was made of, and decoders that use either with a view."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file

import orthrus
from orthrus import Decoder
from orthrus_transformers.target import TransformersTarget
from support.program import ROOT

RELEASED = ROOT / "tests" / "data" / "tiny-orthrus-qwen3"
PROMPTS = [case["prompt"] for case in json.loads((RELEASED / "expected.json").read_text("utf-8"))["cases"].values()]


def released_copy(folder: Path) -> Path:
    """Return a copy of the released checkpoint alone, without what the original implementation computed with it."""
    folder.mkdir(parents=True)
    for name in ("config.json", "model.safetensors"):
        shutil.copyfile(RELEASED / name, folder / name)
    return folder


def plain_base(folder: Path) -> Path:
    """Return the model that the released checkpoint was made of, as anybody's checkpoint of it would be."""
    released_copy(folder)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    for key in ("auto_map", "block_size", "mask_token_id"):
        del config[key]
    (folder / "config.json").write_text(json.dumps({**config, "architectures": ["Qwen3ForCausalLM"]}))
    weights = load_file(folder / "model.safetensors")
    kept = {name: weight for name, weight in weights.items() if "_diff" not in name}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def load(source: Path | str, dtype: str = "float32", **drafter: Any) -> Decoder:
    """Return a decoder on the CPU with the drafter `diffusion`, or another."""
    target = {"name": "transformers", "source": str(source), "dtype": dtype, "device": "cpu"}
    parts = {"attention": {"name": "sdpa"}, "cache": {"name": "dynamic"}, "verifier": {"name": "consensus"}}
    stop = {"max_new_tokens": 32}
    return orthrus.load({"target": target, **parts, "stop": stop, "drafter": {"name": "diffusion", **drafter}})


def target_at(source: Path | str) -> TransformersTarget:
    """Return the target of a model without any view."""
    target = load(source, name="none").target
    assert isinstance(target, TransformersTarget)
    return target


def drafts(decoder: Decoder) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Return tokens and accepted drafts of some answers."""
    results = decoder.generate(PROMPTS)
    return [(result.token_ids, tuple(result.measures.accepted_per_cycle)) for result in results]
