"""Drafters of random cells by name, of which a chooser draws the options."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from typing import Any

import torch

from orthrus import AutoBlock, Drafter, KVCache
from orthrus.testing.doubles.trees import ScriptedTrees
from orthrus_caches.dynamic import DynamicCache
from orthrus_caches.paged import PagedCache
from orthrus_caches.static import StaticCache
from orthrus_cascade.drafter import Cascade
from orthrus_draft_model.drafter import DraftModel
from orthrus_drafters.none import NoDrafter
from orthrus_drafters.options import SuffixOptions
from orthrus_drafters.prompt_lookup import PromptLookup
from orthrus_drafters.replay import Replay
from orthrus_drafters.suffix import Suffix
from orthrus_transformers.target import TransformersTarget
from support.building import BACKENDS
from support.families import RECURRENT, VOCABULARY, attention_for, tiny_model
from support.random_choices import random_clock
from support.random_drafters import random_dflash, random_eagle3
from support.random_views import WITHOUT_VIEWS, Ground, auto_cycle, diffusion, one_pass
from support.recordings import Recorded

CONVOLVING = frozenset({"lfm2", "lfm2_moe"})
VIEWED = ("diffusion", "one pass", "auto cycle", "cascade")  # drafters that draft through a view
BESIDE = ("one pass", "auto cycle")  # and those that do in the pass that scores
LEARNING = ("replay", "suffix", "cascade")  # from one time to the next


def drafters_for(family: str, cache: str) -> list[str]:
    """Return the drafters that a family and a cache take: states follow one path, and so does what is offloaded."""
    recurrent = family in RECURRENT
    one_path = recurrent or cache == "offloaded"
    refused = (
        *(VIEWED if family in WITHOUT_VIEWS else ()),
        *(BESIDE if recurrent or family in CONVOLVING else ()),
    )
    taken = [name for name in DRAFTERS if not name.startswith(refused) and not (one_path and "tree" in name)]
    return [*taken, "none", "none"]  # beside which passes are launched ahead


@functools.cache
def _noisy(family: str, dtype: torch.dtype) -> Any:
    """Return a model that often says what that of a family says."""
    model, generator = tiny_model(family, dtype=dtype), torch.Generator().manual_seed(5)
    for weight in model.parameters():
        weight.add_(torch.randn(weight.shape, generator=generator).to(dtype), alpha=0.01)
    return model


def _draft_model(ground: Ground, length: int, **options: Any) -> DraftModel:
    """Return a drafter whose model is like the target's, or of another family, with parts of its own."""
    choose = ground.choose
    family = choose.choice([ground.family, ground.family, "llama", "mamba2", "lfm2"])
    caches: list[Callable[[], KVCache]] = [DynamicCache, lambda: StaticCache(8), lambda: PagedCache(3)]
    cache, model = choose.choice(caches)(), copy.deepcopy(_noisy(family, ground.target.dtype))
    engine = Recorded() if isinstance(cache, StaticCache) else "eager"
    attention, chunk = BACKENDS[attention_for(family)](), choose.choice([3, 512])
    own = TransformersTarget(model, None, cache, attention, engine=engine, prefill_chunk=chunk)
    return DraftModel(ground.target, own, length, **options)


def _suffix(ground: Ground, branches: int = 1) -> Suffix:
    length, longest = ground.choose.randint(1, 20), ground.choose.choice([2, 32])
    memory = ground.choose.choice([0, 20, 65536])
    return Suffix(SuffixOptions(length, 1, longest, min_share=0.0, branches=branches, memory=memory))


def _lookup(ground: Ground) -> PromptLookup:
    return PromptLookup(ground.choose.randint(2, 7), 1, ground.choose.randint(1, 9))


def _scripted_trees(ground: Ground) -> ScriptedTrees:
    right, sizes = ground.choose.choice([0.4, 0.7, 0.95]), ground.choose.choice([(0, 3, 8), (0, 1, 2, 6, 9), (20,)])
    return ScriptedTrees(ground.texts, VOCABULARY, ground.choose.randrange(99), right, sizes)


def _cascade(ground: Ground, *names: str) -> Cascade:
    drafters = [DRAFTERS[name](ground) for name in ground.choose.sample(names, 2)]
    cost: Any = ground.choose.choice(["seconds", "passes"])
    return Cascade(drafters, cost, clock=random_clock(ground.choose))


DRAFTERS: dict[str, Callable[[Ground], Drafter]] = {
    "none": lambda ground: NoDrafter(),
    "prompt lookup": _lookup,
    "prompt lookup, auto": lambda ground: PromptLookup(2, 1, 15, auto=AutoBlock(ground.target, 15)),
    "suffix": _suffix,
    "suffix, tree": lambda ground: _suffix(ground, branches=ground.choose.randint(2, 5)),
    "replay": lambda ground: Replay(ground.choose.randint(2, 9), ground.choose.choice([0.5, 0.8, 1.0])),
    "scripted, tree": _scripted_trees,
    "draft model": lambda ground: _draft_model(ground, ground.choose.randint(1, 7)),
    "draft model, confident": lambda ground: _draft_model(ground, 7, confidence=ground.choose.choice([0.1, 0.5, 0.9])),
    "draft model, auto": lambda ground: _draft_model(ground, 7, auto=True),
    "draft model, tree": lambda ground: _draft_model(ground, 4, branches=ground.choose.randint(2, 4)),
    "dflash": lambda ground: random_dflash(ground.target, ground.target.dtype),
    "eagle3": lambda ground: random_eagle3(ground.target, ground.target.dtype),
    "diffusion": diffusion,
    "diffusion, head": lambda ground: diffusion(ground, head=True),
    "diffusion, auto": lambda ground: diffusion(ground, auto=True),
    "diffusion, tree": lambda ground: diffusion(ground, tree=True),
    "diffusion, tree, head": lambda ground: diffusion(ground, tree=True, head=True),
    "diffusion, tree, auto": lambda ground: diffusion(ground, tree=True, auto=True),
    "one pass": one_pass,
    "one pass, head": lambda ground: one_pass(ground, head=True),
    "auto cycle": auto_cycle,
    "auto cycle, head": lambda ground: auto_cycle(ground, head=True),
    "auto cycle, tree": lambda ground: auto_cycle(ground, tree=True),
    "cascade": lambda ground: _cascade(ground, "suffix", "prompt lookup", "diffusion", "eagle3", "dflash"),
    "cascade, tree": lambda ground: _cascade(ground, "suffix, tree", "diffusion, tree", "diffusion, tree, auto"),
}
