"""Successor heads of random weights, beside a target's view."""

from __future__ import annotations

import torch

from orthrus_diffusion.successor import SuccessorHead
from orthrus_transformers.target import TransformersTarget


def random_head(target: TransformersTarget, view: str, size: float, seed: int = 0) -> SuccessorHead:
    """Return a head whose corrections are of a size; 0: it corrects nothing."""
    like = next(iter(target.view_weights(view).values()))
    head = SuccessorHead.untrained(6, like, target.hidden_size, seed)
    noise = torch.randn(head.out.shape, generator=torch.Generator().manual_seed(seed))  # the same for any device
    head.out.add_(noise.to(head.out), alpha=size)
    return head
