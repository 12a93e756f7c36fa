"""A toy language that a tiny model speaks: arithmetic sequences. Views of it are trained in seconds on a CPU.

The model is the one of `tests/data/tiny-orthrus-qwen3`, without the view that it came with.
"""

from __future__ import annotations

import functools
import random
from pathlib import Path
from typing import Any

import yaml

from orthrus_diffusion.training import evaluation
from orthrus_diffusion.training.process_group import Workers
from orthrus_diffusion.training.session import TrainingSession
from orthrus_diffusion.training.shards import write_shard
from support.program import ROOT

MODEL = ROOT / "tests" / "data" / "tiny-orthrus-qwen3"
VOCABULARY = 128
MASK = 126


def prompts(count: int, seed: int) -> list[list[int]]:
    """Return beginnings of sequences that go up by one or two, modulo 97."""
    chooser = random.Random(seed)
    written = []
    for _ in range(count):
        first, step, length = chooser.randrange(97), chooser.randrange(1, 3), chooser.randrange(4, 16)
        written.append([2 + (first + step * index) % 97 for index in range(length)])
    return written


@functools.cache
def answered() -> list[tuple[list[int], tuple[int, ...]]]:
    """Return prompts with what the model answers."""
    import orthrus

    target = {"name": "transformers", "source": str(MODEL), "dtype": "float32", "device": "cpu", "engine": "fused"}
    parts = {"attention": {"name": "sdpa"}, "cache": {"name": "static"}, "verifier": {"name": "consensus"}}
    config = {"target": target, **parts, "drafter": {"name": "none"}, "stop": {"max_new_tokens": 80}}
    asked = prompts(200, 0)
    results = orthrus.load(config).generate(asked, batch=100)
    return [(prompt, result.token_ids) for prompt, result in zip(asked, results, strict=True)]


def toy_config(directory: Path, **fit: Any) -> Path:
    """Write a training config, and the answers as its stage `answers` would; return the config's file."""
    out = directory / "out"
    write_shard(out / "answers" / "shard-00000.safetensors", answered(), VOCABULARY)
    sizes = {"rows": 4, "rows_at_a_time": 4, "loss_rows": 4, "row_tokens": 128, "anchors": 32}
    config = {
        "target": {"name": "transformers", "source": str(MODEL), "dtype": "float32", "device": "cpu"},
        "attention": {"name": "sdpa"},
        "cache": {"name": "static", "slots": 128},
        "drafter": {"name": "none"},
        "verifier": {"name": "consensus"},
        "training": {"out": str(out), "mask_token_id": MASK, "block": 4, "storage": "float"},
        "fit": {**sizes, "learning_rate": 8e-3, "log_every": 5, **fit},
        "eval": {"every": 1000, "max_new_tokens": 64, "prompts": 16, "batch": 16},
    }
    file = directory / "toy.yaml"
    file.write_text(yaml.safe_dump(config), encoding="utf-8")
    return file


def toy_run(file: Path, monkeypatch: Any, notify: Any = print, *overrides: str) -> TrainingSession:
    """Return the training of a config; its view is measured on prompts of tokens, for the model has no tokenizer."""
    monkeypatch.setattr(evaluation, "evaluation_prompts", lambda run: prompts(16, 1))
    return TrainingSession.read(file, overrides, Workers(), notify)
