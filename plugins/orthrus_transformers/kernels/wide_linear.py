"""Products of 16-bit matrices whose float32 sums are kept."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

CONTENDERS = 8  # largest sums of a token that are added up again at first, where no kernel keeps all of them


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
    return _with_exact_sums(logits, hidden, weight, bias)


def _with_exact_sums(logits: Tensor, hidden: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return rounded logits with the largest of each token added up again: as many as may be the largest of all."""
    count, most = CONTENDERS, logits.shape[-1]
    while True:
        rounded, contenders = logits.topk(min(count, most), dim=-1)  # [B, n, k]
        sums = (weight[contenders].float() @ hidden.float()[..., None])[..., 0]
        sums = sums if bias is None else sums + bias[contenders].float()
        last = rounded[..., -1]
        # the others are at most the last one, which rounding may have made smaller by less than this
        beaten = last + last.abs() * torch.finfo(hidden.dtype).eps > sums.amax(-1)
        if count >= most or not bool(beaten.any()):
            return logits.scatter_(-1, contenders, sums)
        count *= 4
