"""Transitions of a block: what a successor head adds to the logits of each candidate after each of those before it.

B: rows, n: places, k: candidates, E: hidden size, P: parts of a sum.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from orthrus.draft_states import DraftStatesTarget, LendsTables
from orthrus.kernels.available import row_kernels
from orthrus_diffusion.successor import LARGEST, SuccessorHead
from orthrus_diffusion.tree import widened

KERNEL_DTYPES = ({torch.bfloat16}, {torch.float16}, {torch.float32})  # of all that kernels read


@dataclass(frozen=True, eq=False)
class Successors:
    """A head at work on a target, whose embeddings and output head it goes by."""

    head: SuccessorHead
    target: DraftStatesTarget

    @torch.no_grad()
    def transitions(self, anchors: Tensor, candidates: Tensor, states: Tensor) -> Tensor:
        """Return what is added to the logits [B, n, k, k] of candidates, each after each of those of the place before.

        anchors [B], which are before the first place; candidates [B, n, k] and states [B, n, E] of the places. All are
        finite, whatever the head and the states are: what is no number corrects nothing.
        """
        parts = self.parts(anchors, candidates, states)
        return bounded(self._in_torch(anchors, candidates, states) if parts is None else parts.sum(0))

    @torch.no_grad()
    def parts(self, anchors: Tensor, candidates: Tensor, states: Tensor) -> Tensor | None:
        """Return parts [P, B, n, k, k] whose sums, `bounded`, are the transitions; None: no kernel makes them."""
        tables = self.target.tables() if isinstance(self.target, LendsTables) else None
        if tables is None or row_kernels(states.device) is None:
            return None
        if {tensor.dtype for tensor in (*tables, states, self.head.token)} not in KERNEL_DTYPES:
            return None
        from orthrus_diffusion.triton_successor import transition_parts

        return transition_parts(self.head, tables, anchors, candidates, states)

    def _in_torch(self, anchors: Tensor, candidates: Tensor, states: Tensor) -> Tensor:
        first = anchors[:, None, None].expand_as(candidates[:, :1])
        before = self.target.embed(torch.cat([first, candidates[:, :-1]], dim=1).flatten(1))  # [B, n k, E]
        before = before.view(*candidates.shape, -1).to(self.head.token.dtype)
        corrections = self.head.corrections(before, states[:, :, None].to(self.head.token.dtype))  # [B, n, k, E]
        rows = self.target.head_rows(candidates.flatten(1)).view(*candidates.shape, -1)
        return widened(corrections @ rows.to(corrections.dtype).mT)


def bounded(transitions: Tensor) -> Tensor:
    """Return finite transitions of a bounded size: 0 of what is no number."""
    return transitions.clamp(-LARGEST, LARGEST).nan_to_num(0.0)
