"""A drafter's own vocabulary, which is a part of the target's. V: the target's size, Vd: the drafter's."""

from __future__ import annotations

import torch
from torch import Tensor

from orthrus.errors import InputError


def target_ids(offsets: Tensor, vocabulary_size: int) -> Tensor:
    """Return the target's id of each of the drafter's [Vd]: the id itself and its offset in `d2t` [Vd].

    Raises InputError if one is outside the target's vocabulary, or two are the same.
    """
    ids = torch.arange(len(offsets), device=offsets.device) + offsets.to(torch.int64)
    outside = ids[(ids < 0) | (ids >= vocabulary_size)]
    if len(outside):
        raise InputError(f"d2t gives the token {int(outside[0])}, outside the target's vocabulary of {vocabulary_size}")
    if len(torch.unique(ids)) < len(ids):
        raise InputError("d2t gives two ids of the drafter the same token of the target")
    return ids


def spread(logits: Tensor, ids: Tensor, vocabulary_size: int) -> Tensor:
    """Return logits [..., Vd] as [..., V]: -inf for the tokens that the drafter does not know."""
    wide = logits.new_full((*logits.shape[:-1], vocabulary_size), float("-inf"))
    return wide.index_copy(-1, ids, logits)
