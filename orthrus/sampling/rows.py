"""Sampling functions for rows with settings of their own (`Context.settings`). B: rows, n: places, V: vocabulary.

A row's result is the same to the bit whoever is beside it, so verifiers and drafters that use these work in sessions.
"""

from __future__ import annotations

import torch
from torch import Tensor

from orthrus.batch.context import Context
from orthrus.batch.row_settings import RowSettings
from orthrus.chance import Chance
from orthrus.paths import Paths
from orthrus.sampling.functions import NEVER, keep_min_p, token_probabilities, widen


def warp_rows(logits: Tensor, settings: RowSettings) -> Tensor:
    """Return logits [B, n, V] divided by temperatures and cut by top-k, top-p and min-p, in this order.

    The softmax of what is returned is what a token is drawn from. Rows at temperature 0 stay what they are.
    """
    if settings.temperature is not None:
        logits = widen(logits)
        logits = logits / settings.number("temperature", logits.dtype)
    if settings.top_k is not None:
        logits = _keep_top_k(logits, settings.top_k, settings.most_k)
    wide = torch.float64 if logits.dtype == torch.float64 else torch.float32
    if settings.cut_share is not None:
        logits = _cut(logits, settings.number("cut_share", wide))
    return logits if settings.min_p is None else keep_min_p(logits, settings.number("min_p", wide))


def add_noise(context: Context, logits: Tensor, chance: Chance, first: int = 0, paths: Paths | None = None) -> Tensor:
    """Return logits [B, n, V], after the anchor and on, whose argmax is each row's choice: with noise where it draws.

    first: how many tokens after the anchor come before them. paths: of a tree, places of one depth have one noise. The
    noise is that of a coupled verifier (`Chance.gumbel`); rows at temperature 0 have none.
    """
    settings = context.settings
    if not settings.draws:
        return logits
    noise = chance.gumbel(context.keys, context.positions(logits.shape[1], paths) + first, logits.shape[-1])
    if settings.drawing is not None:
        noise = torch.where(settings.drawing, noise, 0.0)
    return widen(logits) + noise


def row_probabilities(context: Context, logits: Tensor) -> Tensor:
    """Return what processed logits [B, n, V] are drawn from; at temperature 0 all of it is on the largest."""
    settings = context.settings
    if not settings.draws:
        return token_probabilities(logits, 0)
    probabilities = token_probabilities(logits, 1)
    if settings.drawing is None:
        return probabilities
    return torch.where(settings.drawing, probabilities, token_probabilities(logits, 0))


def _keep_top_k(logits: Tensor, counts: Tensor, most: int) -> Tensor:
    """Return logits with all but each row's `counts` [B, 1, 1] largest impossible; ties with the last of them stay."""
    largest = logits.topk(most, dim=-1).values  # [B, n, most]
    last = (counts.clamp(max=most) - 1).expand(*logits.shape[:2], 1)
    least = torch.where(counts > most, NEVER, largest.gather(-1, last))  # a row without a top-k counts all tokens
    return logits.masked_fill(logits < least, NEVER)


def _cut(logits: Tensor, shares: Tensor) -> Tensor:
    """Return logits without the least likely tokens that together have at most a share [B, 1, 1] of probability."""
    # Of equal ones the later are cut first, on every device and in every batch.
    ascending, order = (values.flip(-1) for values in widen(logits).sort(dim=-1, descending=True, stable=True))
    removed = ascending.softmax(-1).cumsum(-1) <= shares
    removed[..., -1] = False  # the likeliest stays, however rounding falls
    return logits.masked_fill(removed.scatter(-1, order, removed), NEVER)
