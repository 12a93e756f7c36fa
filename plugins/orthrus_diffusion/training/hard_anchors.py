"""Anchors where drafting is hard. Decoding drafts from the token at which the last draft was wrong, mostly one that the
model was not sure of; anchors anywhere lie in stretches that any view drafts, which teach it little.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.functional import pad

from orthrus_diffusion.training.packing import Batch


def with_hard_anchors(
    batch: Batch, teacher: Tensor, project: Callable[[Tensor], Tensor], share: float, rows: int
) -> Batch:
    """Return the batch with anchors drawn anew: each column as likely as 1 - share * p.

    p is the probability that the frozen model gave to the token there; teacher [R, L, E] are its hidden states, of
    which so many rows are projected at a time.
    """
    sure = torch.cat(
        [_sureness(batch, teacher, project, slice(start, start + rows)) for start in range(0, len(teacher), rows)]
    )
    scores = batch.noise + torch.log1p(-share * sure)  # the largest of log weights plus Gumbel noise are a draw
    missing = batch.anchors.shape[1] - scores.shape[1]
    best = pad(scores, (0, max(missing, 0)), value=-math.inf).topk(batch.anchors.shape[1], dim=-1)
    used = best.values > -math.inf
    last = best.indices.masked_fill(~used, -1).amax(-1, keepdim=True)
    anchors, order = torch.where(used, best.indices, last).sort(-1)
    return replace(batch, anchors=anchors, used=used.gather(1, order).to(batch.used.dtype))


@torch.no_grad()
def _sureness(batch: Batch, teacher: Tensor, project: Callable[[Tensor], Tensor], part: slice) -> Tensor:
    """Return the probability [r, L] of each token after those before it in its text; 0 of a text's first."""
    logits = project(teacher[part, :-1]).float()  # [r, L - 1, V]
    token_ids = batch.rows.token_ids[part]
    chosen = logits.gather(2, token_ids[:, 1:, None])[..., 0] - logits.logsumexp(-1)
    sure = torch.cat([torch.zeros_like(chosen[:, :1]), chosen.exp()], dim=1).clamp(max=1 - 1e-6)
    first = batch.rows.starts[part] == torch.arange(token_ids.shape[1], device=token_ids.device)
    return sure.masked_fill(first, 0.0)
