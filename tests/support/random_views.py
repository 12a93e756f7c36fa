"""Drafters of random cells that draft through a view, and what all drafters of these cells are made for."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orthrus_diffusion.auto_cycle import AutoCycleDiffusion
from orthrus_diffusion.drafter import Diffusion
from orthrus_diffusion.one_pass import OnePassDiffusion
from support.families import VOCABULARY
from support.random_choices import random_clock
from support.successors import random_head
from support.views import random_view

MASK, VIEW = VOCABULARY - 1, "noisy"
WITHOUT_VIEWS = frozenset({"falcon_mamba", "mamba", "mamba2", "zamba"})  # families that have no attention to copy


@dataclass(frozen=True)
class Ground:
    """What a drafter is made for, and the chooser of its options. texts: the answers, by key of the request."""

    target: Any
    family: str
    texts: Mapping[int, Sequence[int]]
    choose: random.Random


def diffusion(ground: Ground, tree: bool = False, head: bool = False, auto: bool = False) -> Diffusion:
    """Return a drafter of two passes a cycle, which may launch its blocks early."""
    target, choose = _viewed(ground), ground.choose
    successor = random_head(target, VIEW, choose.choice([0.0, 0.05, 2.0])) if head else None
    block, nodes, early = choose.randint(2, 17), choose.choice([2, 5, 9, 31]) if tree else None, choose.random() < 0.5
    return Diffusion(target, block, MASK, VIEW, auto=auto, tree=nodes, early=early, successor=successor)


def one_pass(ground: Ground, head: bool = False) -> OnePassDiffusion:
    """Return a drafter of one pass a cycle."""
    target = _viewed(ground)
    successor = random_head(target, VIEW, 0.05) if head else None
    return OnePassDiffusion(target, ground.choose.randint(2, 9), MASK, VIEW, successor=successor)


def auto_cycle(ground: Ground, tree: bool = False, head: bool = False) -> AutoCycleDiffusion:
    """Return a drafter of one or two passes, as it chooses."""
    two = diffusion(ground, tree, head, auto=ground.choose.random() < 0.4)
    one = OnePassDiffusion(ground.target, min(6, two.block), MASK, VIEW, successor=two.successor)
    return AutoCycleDiffusion(ground.target, two, one, clock=random_clock(ground.choose))


def _viewed(ground: Ground) -> Any:
    """Return the target with a view attached whose drafts are often right."""
    if VIEW not in ground.target.view_names:
        random_view(ground.target, VIEW, noise=ground.choose.choice([0.0, 0.02, 0.1]))
    return ground.target
