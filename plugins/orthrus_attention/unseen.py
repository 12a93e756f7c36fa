"""Outputs that are no numbers because of keys or values that their queries do not see: they are computed without them.

A product with a weight of 0 is not 0 where the value is NaN or infinite. Such values are left behind by drafts, whose
tokens may be any: a draft may cost time, and must not change what the tokens before it say.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.linalg import vector_norm

from orthrus_attention.grouped_heads import fold, unfold


def looks(out: Tensor) -> bool:
    """Tell whether outputs are looked at: on a CPU, where nothing waits for it, and not while a compiler traces."""
    return out.device.type == "cpu" and not torch.compiler.is_compiling()


def zeroed(states: Tensor) -> Tensor:
    """Return a copy with 0 for what is no number: where nobody looks, for a weight of 0 times NaN is NaN."""
    return states.nan_to_num(0.0, 0.0, 0.0)  # one kernel


def spoiling(key: Tensor, value: Tensor, seen: Tensor) -> Tensor:
    """Return what is added to scores [B, 1, n, extent] once keys and values are zeroed: -inf for what is hidden.

    It is NaN where a query sees what was zeroed: its output is no number, as it is without the zeros. seen: as the
    result.
    """
    largest_key, largest_value = (vector_norm(states, torch.inf, (1, 3)) for states in (key, value))  # [B, extent]
    nothing = 0 * largest_key + 0 * largest_value  # NaN where there is something that is no number
    return torch.where(seen, nothing[:, None, None], float("-inf"))


def mended(
    out: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    seen: Tensor,
    scale: float,
    softcap: float | None = None,
    sinks: Tensor | None = None,
) -> Tensor:
    """Return outputs [B, H, n, D] that are finite wherever all that their queries see is; others stay to the bit.

    seen [B, n, extent]. Where `looks` says so alone: on other devices looking would hold up what is launched.
    """
    if not looks(out) or bool(out.isfinite().all()):
        return out
    groups = query.shape[1] // key.shape[1]
    usable = key.isfinite().all(-1) & value.isfinite().all(-1)  # [B, H_kv, extent]
    key, value = (states.masked_fill(~usable[..., None], 0.0) for states in (key, value))
    scores = unfold(fold(query, groups) @ key.transpose(2, 3), groups) * scale  # [B, H, n, extent]
    scores = scores if softcap is None else softcap * torch.tanh(scores / softcap)
    scores = scores.masked_fill(~seen[:, None], float("-inf"))
    if sinks is not None:
        scores = torch.cat([scores, sinks.to(scores)[None, :, None, None].expand(*scores.shape[:3], 1)], -1)
    wide = torch.promote_types(scores.dtype, torch.float32)
    weights = scores.softmax(-1, dtype=wide)[..., : key.shape[2]].to(value.dtype)
    right = unfold(fold(weights, groups) @ value, groups).to(out.dtype)
    hit = (seen[:, None] & ~usable[:, :, None]).any(-1)  # [B, H_kv, n]: what they see themselves is no number
    hit = hit.repeat_interleave(groups, 1)[..., None]
    return torch.where(out.isfinite() | hit, out, right)
