"""A pass as attention `split` needs it, prepared once for all layers with the same window."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from orthrus.kernels.available import row_kernels


@dataclass(frozen=True, eq=False)
class Prepared:
    """The inputs of the kernels: positions [B, n] and lengths [B]; window 0 is none.

    seen [B, n, n]: of a tree; [B, n, m]: of blocks, behind m - n columns of a scored draft.
    """

    positions: Tensor
    lengths: Tensor
    window: int
    causal: bool
    seen: Tensor | None = None

    @property
    def kind(self) -> Literal["causal", "block", "tree", "blocks"]:
        """What a query sees, as `orthrus.MaskDescription` has it."""
        if self.seen is None:
            return "causal" if self.causal else "block"
        return "tree" if self.seen.shape[1] == self.seen.shape[2] else "blocks"

    @cached_property
    def columns(self) -> Tensor:
        """[B, n, n] int32: of each column of a tree the column that its path leads through at each depth, from 0 on.

        Beyond a path's end stands anything: no query looks there.
        """
        assert self.seen is not None, "a tree is described by its paths"
        if row_kernels(self.seen.device) is not None:
            from orthrus_attention.triton_path_columns import path_columns

            return path_columns(self.seen, self.positions, self.lengths)
        width = self.seen.shape[1]
        indices = torch.arange(width, dtype=torch.int32, device=self.seen.device)
        depths = (self.positions - self.lengths[:, None])[:, None].expand(-1, width, -1)
        depths = torch.where(self.seen, depths, width)  # what is not on the path goes behind it
        columns = torch.zeros(*self.seen.shape[:2], width + 1, dtype=torch.int32, device=self.seen.device)
        columns.scatter_(2, depths, indices.expand(self.seen.shape))
        return columns[..., :width].contiguous()
