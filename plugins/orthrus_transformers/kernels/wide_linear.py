"""Products of 16-bit matrices whose float32 sums are kept."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

CONTENDERS = 8  # largest sums of a token that are added up again, where no kernel keeps all of them


def wide_linear(hidden: Tensor, weight: Tensor, bias: Tensor | None, rounded: Callable[[Tensor], Tensor]) -> Tensor:
    """Return hidden [B, n, E] times weight [V, E] transposed, plus bias [V], in float32: [B, n, V].

    rounded: gives the same in the dtype of both, for devices without a kernel that keeps all sums. There the largest of
    each token are added up again, and the others are the rounded ones.
    """
    if hidden.is_cuda:
        flat = torch.mm(hidden.reshape(-1, hidden.shape[-1]), weight.t(), out_dtype=torch.float32)
        logits = flat.view(*hidden.shape[:-1], -1)
        return logits if bias is None else logits.add_(bias.float())
    logits = rounded(hidden).float()
    contenders = logits.topk(min(CONTENDERS, logits.shape[-1]), dim=-1).indices  # [B, n, k]
    sums = (weight[contenders].float() @ hidden.float()[..., None])[..., 0]
    return logits.scatter_(-1, contenders, sums if bias is None else sums + bias[contenders].float())
