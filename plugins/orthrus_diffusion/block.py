"""A block of masks after each row's anchor, and what is made of its logits. B: rows, K: width of the block."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from orthrus import RowState
from orthrus.choices import PassLogits
from orthrus.kernels.argmax import argmax
from orthrus_diffusion.chain import FOLLOWED, greedy_chain
from orthrus_diffusion.following_tree import best_first_following, chosen_by_kernels, conditional
from orthrus_diffusion.transitions import Successors
from orthrus_diffusion.tree import CANDIDATES, best_first, best_of, likeliest_of, widened


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
            return best_first(self._moved(rows, logits), rows.room, self.nodes)
        return self._moved(rows, argmax(logits) if self.choose else logits)

    @property
    def reduces(self) -> bool:
        """Whether the likeliest tokens of a place are enough."""
        return self.choose

    def reduced(self, rows: RowState, logits: PassLogits) -> Tensor:
        """Return what `result` does of logits that are not in one piece."""
        if not self.nodes:
            return self._moved(rows, logits.argmax())
        best, normalizer = logits.likeliest(CANDIDATES), logits.normalizer()
        moved = [self._moved(rows, each) for each in (best.logits, best.tokens, normalizer)]
        return best_of(moved[0], moved[1], moved[2], rows.room, self.nodes)

    def _moved(self, rows: RowState, by_column: Tensor) -> Tensor:
        """Return numbers of each column [B, K - 1, ...], each row's first draft in front."""
        if not self.spare:
            return by_column
        columns = self._columns(rows)
        index = columns.view(*columns.shape, *[1] * (by_column.dim() - 2))
        return by_column.gather(1, index.expand(-1, -1, *by_column.shape[2:]))

    def _columns(self, rows: RowState) -> Tensor:
        """Return the column [B, K - 1] of each draft, a row's first in front."""
        columns = torch.arange(self.drafts, device=rows.room.device) + self._unused(rows)
        return columns.clamp(max=self.drafts - 1)

    def _unused(self, rows: RowState) -> Tensor:
        """Return how many columns [B, 1] of each row are spare."""
        return (self.drafts - rows.room[:, None]).clamp(min=0)

    def _places(self, rows: RowState) -> Tensor:
        """Return how far after the anchor each column is [B, K]; below 1 it is spare, or the anchor's."""
        return torch.arange(self.width, device=rows.room.device) - self._unused(rows)


@dataclass(frozen=True)
class SuccessorBlock(MaskedBlock):
    """A block whose drafts see each other: a successor head corrects the logits of each by the token before it.

    choose: the result is tokens [B, K - 1] or a tree; else the logits [B, K - 1, V], and behind each place's what the
    head adds to those of its candidates (`SuccessorBlock.parts`).
    """

    successors: Successors | None = None

    @property
    def reduces(self) -> bool:
        """Whether the likeliest tokens of a place are enough: the states are needed, too."""
        return False

    def result_of_states(self, rows: RowState, logits: Tensor, states: Tensor) -> Tensor:
        """Return what is made of logits [B, K - 1, V] and the hidden states [B, K - 1, E] that they are of."""
        assert self.successors is not None, "there is a head"
        count = min(FOLLOWED, logits.shape[-1])  # k
        values, tokens, normalizers = (self._moved(rows, each) for each in likeliest_of(logits, count))
        states = self._moved(rows, states)
        if not self.choose:
            transitions = self.successors.transitions(rows.anchors, tokens, states)  # [B, K - 1, k, k]
            return torch.cat([widened(self._moved(rows, logits)), transitions.flatten(2)], dim=-1)
        parts = self.successors.parts(rows.anchors, tokens, states)
        if parts is not None:
            return chosen_by_kernels(tokens, values, normalizers, parts, rows.room, self.nodes)
        transitions = self.successors.transitions(rows.anchors, tokens, states)
        if not self.nodes:
            return greedy_chain(tokens, values, transitions)
        return best_first_following(tokens, conditional(values, normalizers, transitions), rows.room, self.nodes)

    @staticmethod
    def parts(result: Tensor, vocabulary_size: int) -> tuple[Tensor, Tensor]:
        """Return the logits [B, K - 1, V] and transitions [B, K - 1, k, k] of a result that chooses no tokens."""
        logits, transitions = result[..., :vocabulary_size], result[..., vocabulary_size:]
        count = min(FOLLOWED, vocabulary_size)
        return logits, transitions.reshape(*transitions.shape[:-1], count, count)
