"""Rows of tables that belong to tokens and positions, looked up by one kernel on a GPU where torch takes several."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import embedding

from orthrus.kernels.normed import Normed

MOST_LOOKED_UP = 1024  # a program for each; of more, torch's are as good


def embedded(token_ids: Tensor, table: Tensor, norm: Tensor) -> Normed:
    """Return the embeddings [B, n, E] of tokens, from a table [V, E] on a GPU, ready for a norm of this gain [E].

    Every bit is that of the lookup and of `skinny_linear.gain` behind it.
    """
    from orthrus.kernels import triton_lookups

    return triton_lookups.embedded(token_ids, table, norm)


def angles(positions: Tensor, cosine: Tensor, sine: Tensor) -> tuple[Tensor, Tensor]:
    """Return cosines and sines [B, n, D] of positions [B, n], from tables [P, D]."""
    if positions.is_cuda and positions.numel() <= MOST_LOOKED_UP:
        from orthrus.kernels import triton_lookups

        return triton_lookups.angles(positions, cosine, sine)
    return embedding(positions, cosine), embedding(positions, sine)
