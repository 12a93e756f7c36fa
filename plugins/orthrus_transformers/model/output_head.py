"""The output head of a 16-bit model with its float32 sums kept, in the passes of every engine.

A head's products are summed in float32 and rounded to the model's dtype. In bfloat16 the largest logits often become
equal by that, and the argmax is then the lowest id of them, whichever was ahead. The rounding is left out here: logits
come in float32. The model's own forward, which verification compares with, is what it was.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from orthrus.kernels import skinny_linear
from orthrus_transformers.kernels.wide_linear import wide_linear
from orthrus_transformers.model.pass_state import PassState
from orthrus_transformers.model.patching import Forward, PatchedForward, is_watched, own_forward, patch

NARROW = (torch.bfloat16, torch.float16)


class WideHead:
    """The head's forward: logits [B, n, V] in float32 of hidden states [B, n, E] in 16 bits.

    rounded: the forward that rounds, in whatever form the pass asks for.
    """

    def __init__(self, head: Any, rounded: Forward) -> None:
        self.rounded = rounded
        self._head = head

    def __call__(self, hidden: Tensor) -> Tensor:
        """Return the logits. Those of a few tokens are batch-invariant, as far as the engine's layers are."""
        weight, bias, state = self._head.weight, self._head.bias, self._head.orthrus_attention
        if (
            (state.form == "fused" or not state.running)
            and bias is None
            and skinny_linear.fits_head(hidden, weight, batch_invariant=state.view is None)
        ):
            return skinny_linear.project(hidden, weight)
        return wide_linear(hidden, weight, bias, self.rounded)


def project(head: Any, hidden: Tensor) -> Tensor:
    """Return the head's products [B, n, V] of states [B, n, E] outside of a pass; in float32 for 16-bit models."""
    forward = head.forward
    wide = forward.replacement if isinstance(forward, PatchedForward) else None
    return wide(hidden) if isinstance(wide, WideHead) else head(hidden)


def keep_wide_sums(model: Any) -> None:
    """Let the head of a 16-bit model give float32 logits within passes, if it is a plain linear layer."""
    head = model.get_output_embeddings()
    if type(head) is not torch.nn.Linear or head.weight.dtype not in NARROW or is_watched(head):
        return
    forward = head.forward
    replaced = forward.replacement if isinstance(forward, PatchedForward) else None
    if isinstance(replaced, WideHead):  # the model was loaded into another target before
        forward = replaced.rounded
    patch(head, WideHead(head, forward), _in_a_pass)


def fuse_head(head: Any) -> None:
    """Let the head of a model of another dtype read its weight once for all rows of a pass of fused layers."""
    own = own_forward(head)
    # A pass that scores some columns only hands over a view with gaps, which torch would multiply row by row.
    patch(head, lambda hidden: own(hidden.contiguous()), lambda state: state.form == "fused")


def _in_a_pass(state: PassState) -> bool:
    return state.running
