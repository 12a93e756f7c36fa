"""Rows of texts and blocks of masks that a view is trained on. R: rows, L: columns, N: blocks of a row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, eq=False)
class PackedRows:
    """Rows [R, L] that texts are packed into, one after the other, for training.

    token_ids [R, L]. starts [R, L]: the column at which the text of each token begins, which is its position 0.
    """

    token_ids: Tensor
    starts: Tensor


@dataclass(frozen=True, eq=False)
class MaskedBlocks:
    """Blocks of masks in packed rows: anchors [R, N] columns, each followed by size - 1 mask tokens."""

    anchors: Tensor
    size: int
    mask_token_id: int
