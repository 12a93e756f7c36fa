"""A block of masks after each row's anchor, and what is made of its logits. B: rows, K: width of the block."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from orthrus import RowState
from orthrus_diffusion.tree import best_first


@dataclass(frozen=True)
class MaskedBlock:
    """The anchor and K - 1 masks at their true positions (the paper's section 3); no row goes beyond its room.

    Column i predicts the token after its position, as in the target, so the last one is not used. Where rows may have
    less room than masks (`spare`), a row's spare columns come first, and its drafts are moved to the front.
    choose: the result is the likeliest tokens [B, K - 1]; else it is their logits [B, K - 1, V]. nodes: how many
    tokens a tree has, which is chosen then (`best_first`); 0: none. whole: the last column is used, too, so that as
    many tokens are proposed as there are columns: what it sees is that of a block without the masks behind it.
    """

    width: int
    mask_token_id: int
    spare: bool
    choose: bool
    nodes: int = 0
    whole: bool = False

    @property
    def drafts(self) -> int:
        """How many tokens it proposes."""
        return self.width if self.whole else self.width - 1

    def tokens(self, rows: RowState) -> Tensor:
        """Return the anchors and the masks [B, K]."""
        anchors = rows.anchors[:, None]
        if not self.spare:
            return torch.nn.functional.pad(anchors, (0, self.width - 1), value=self.mask_token_id)
        return torch.where(self._places(rows) > 0, self.mask_token_id, anchors)

    def positions(self, rows: RowState) -> Tensor:
        """Return the positions [B, K]: spare columns repeat the anchor's."""
        return rows.lengths[:, None] - 1 + self._places(rows).clamp(min=0)

    def result(self, rows: RowState, logits: Tensor) -> Tensor:
        """Return tokens [B, K - 1], or logits [B, K - 1, V], each row's first draft in front; or a tree."""
        if self.choose and self.nodes:
            return best_first(replace(self, choose=False).result(rows, logits), rows.room, self.nodes)
        chosen = logits.argmax(-1) if self.choose else logits
        if not self.spare:
            return chosen
        columns = torch.arange(self.drafts, device=logits.device) + self._unused(rows)
        columns = columns.clamp(max=self.drafts - 1)
        return chosen.gather(1, columns) if self.choose else gather_rows(chosen, columns)

    def _unused(self, rows: RowState) -> Tensor:
        """Return how many columns [B, 1] of each row are spare."""
        return (self.drafts - rows.room[:, None]).clamp(min=0)

    def _places(self, rows: RowState) -> Tensor:
        """Return how far after the anchor each column is [B, K]; below 1 it is spare, or the anchor's."""
        return torch.arange(self.width, device=rows.room.device) - self._unused(rows)


def gather_rows(logits: Tensor, columns: Tensor) -> Tensor:
    """Return the logits [B, n, V] in each row's columns [B, n]."""
    return logits.gather(1, columns[..., None].expand(-1, -1, logits.shape[-1]))
