"""Targets of random cells: caches and engines by name, of which a chooser draws the options."""

from __future__ import annotations

import random
from collections.abc import Callable

import torch

from orthrus import KVCache
from orthrus.testing import Letters
from orthrus_caches.dynamic import DynamicCache
from orthrus_caches.offloaded import OffloadedCache
from orthrus_caches.paged import PagedCache
from orthrus_caches.static import StaticCache
from orthrus_transformers.engines.engine import EngineType
from orthrus_transformers.engines.graph_limits import GraphLimits
from orthrus_transformers.target import TransformersTarget
from support.building import BACKENDS
from support.families import RECURRENT, tiny_model
from support.joined_blocks import JoinedEngine
from support.recordings import Recorded

ALPHABET = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMN"  # one letter for each token
BLOCK = 4  # slots of a pool's blocks
LEAST = 40  # slots that the check of a model at load finds room in
FUSED = frozenset({"llama", "mistral", "qwen2", "qwen3"})  # families whose layers have a fused form

# Each makes a cache whose longest row needs so many slots; keeps: it may keep prefixes of prompts for others.
CACHES: dict[str, Callable[[random.Random, int, bool], KVCache]] = {
    "dynamic": lambda choose, slots, keeps: DynamicCache(),
    "offloaded": lambda choose, slots, keeps: OffloadedCache(),
    "paged": lambda choose, slots, keeps: PagedCache(choose.randint(1, 5), prefixes=_prefixes(choose, keeps)),
    "paged, full": lambda choose, slots, keeps: PagedCache(
        BLOCK, -(-max(slots, LEAST) // BLOCK) + choose.choice([0, 1, 5]), _prefixes(choose, keeps)
    ),
    "static": lambda choose, slots, keeps: StaticCache(choose.choice([8, 16, 512])),
    "static, full": lambda choose, slots, keeps: StaticCache(choose.choice([8, 16]), max(slots, LEAST)),
}
ENGINES: dict[str, Callable[[random.Random], str | EngineType]] = {
    "auto": lambda choose: "auto",  # in float32 it is `native`, where that can be
    "eager": lambda choose: "eager",
    "fused": lambda choose: "fused",
    "joined": lambda choose: JoinedEngine,
    "recorded": lambda choose: Recorded(limits=_limits(choose)),
    "recorded fused": lambda choose: Recorded("fused", limits=_limits(choose)),
    "recorded joined": lambda choose: Recorded(JoinedEngine, limits=_limits(choose)),
}


def engines_for(family: str, dtype: str) -> list[str]:
    """Return the engines that take a family; blocks are joined in float64, where rounding is no matter."""
    if family not in FUSED:
        return ["eager", "eager", "recorded"]
    return [name for name in ENGINES if "joined" not in name or dtype == "float64"]


def caches_for(family: str, engine: str) -> list[str]:
    """Return the caches that an engine takes: passes are recorded, and blocks joined, over buffers that stay."""
    return [name for name in CACHES if engine in ("auto", "eager", "fused") or name.startswith("static")]


def target_of(
    family: str,
    dtype: torch.dtype,
    engine: str,
    cache: str,
    attention: str,
    chunk: int,
    slots: int,
    choose: random.Random,
) -> TransformersTarget:
    """Return a target; one of recorded passes may do what a GPU's does: score choices, and score ahead."""
    held = CACHES[cache](choose, slots, family not in RECURRENT)
    model, made = tiny_model(family, dtype=dtype), ENGINES[engine](choose)
    target = TransformersTarget(model, Letters(ALPHABET), held, BACKENDS[attention](), engine=made, prefill_chunk=chunk)
    if engine.startswith("recorded") and choose.random() < 0.5:
        target.scores_choices, target.scores_ahead = True, target.recurrent is None
    return target


def _prefixes(choose: random.Random, keeps: bool) -> int:
    return choose.choice([0, 4, 16]) if keeps else 0


def _limits(choose: random.Random) -> GraphLimits:
    return choose.choice([GraphLimits(), GraphLimits(graphs=3)])
