"""Drafts that are drawn with the noise that a coupled verifier draws the target's tokens with. B: rows, n: width."""

from __future__ import annotations

from torch import Tensor

from orthrus.batch.context import Context
from orthrus.chance import Chance
from orthrus.sampling.rows import add_noise, row_probabilities, warp_rows
from orthrus.values import Draft


def draw_draft(context: Context, chance: Chance, logits: Tensor, lengths: Tensor, passes: float = 1) -> Draft:
    """Return tokens drawn from logits [B, n, V] after each row's anchor, with the row's settings.

    Where a drafter's logits are near the target's, the same noise makes the same choice. probabilities are what the
    tokens were drawn from, for other verifiers.
    """
    logits = warp_draft(context, logits)
    tokens = add_noise(context, logits, chance).argmax(-1)
    return Draft(tokens, lengths, row_probabilities(context, logits), passes=passes)


def warp_draft(context: Context, logits: Tensor) -> Tensor:
    """Return a drafter's logits [B, n, V] as `warp_rows` does; what is no number costs a draft, and nothing else."""
    return warp_rows(logits.masked_fill(logits.isnan(), 0.0), context.settings)
