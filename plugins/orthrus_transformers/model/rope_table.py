"""A RoPE table: cosines and sines of rotary positions looked up, one kernel a pass instead of nine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from orthrus.kernels.lookups import angles
from orthrus_transformers.model.patching import own_forward, patch

# Kinds of rotary positions whose angles depend on the position alone; of `longrope` up to the target's max_length.
FIXED = {"default", "linear", "llama3", "yarn", "longrope"}
MOST_BYTES = 32 << 20


def look_up_angles(model: Any, positions: int | None) -> bool:
    """Make passes with fused layers look angles up, up to so many positions; return whether the model allows it.

    The table holds what the model's own module gives, so on a GPU, where an operation on an element does not depend on
    its neighbours, every bit is the same.
    """
    rotary: Any = getattr(model.base_model, "rotary_emb", None)
    if positions is None or getattr(rotary, "rope_type", None) not in FIXED:
        return False
    inputs = torch.zeros(1, dtype=model.dtype, device=model.device)  # tells dtype and device
    if 4 * rotary.inv_freq.numel() * positions * inputs.element_size() > MOST_BYTES:
        return False
    cosine, sine = own_forward(rotary)(inputs, torch.arange(positions, device=model.device)[None])  # [1, positions, D]
    forward = _looking_up(own_forward(rotary), cosine[0].contiguous(), sine[0].contiguous())
    patch(rotary, forward, lambda state: state.form == "fused")
    return True


def _looking_up(
    own: Callable[..., tuple[Tensor, Tensor]], cosine: Tensor, sine: Tensor
) -> Callable[..., tuple[Tensor, Tensor]]:
    def forward(x: Tensor, position_ids: Tensor) -> tuple[Tensor, Tensor]:
        if x.dtype != cosine.dtype:
            return own(x, position_ids)
        return angles(position_ids, cosine, sine)  # [B, n, D] each

    return forward
