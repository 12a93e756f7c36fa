"""Abilities of targets whose views can be trained, and the two passes of it. L: columns of packed rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

from orthrus.optional.views import ViewTarget
from orthrus.values import MaskedBlocks, PackedRows

if TYPE_CHECKING:
    from torch import Tensor


class DualPass(Protocol):
    """Run the two passes of training a view. E: hidden size, N: blocks of a row, K: size of a block."""

    plain_head: bool  # whether `project` is one matrix, which a compiler can look into

    def committed(self, rows: PackedRows) -> Tensor:
        """Return the frozen model's hidden states [R, L, E], and keep its keys and values."""

    def drafted(self, rows: PackedRows, blocks: MaskedBlocks) -> Tensor:
        """Return the view's hidden states [R, N, K, E], with gradients, in the rows that `committed` saw last."""

    def project(self, hidden: Tensor, correction: Tensor | None = None) -> Tensor:
        """Return the logits [..., V] of states [..., E], plus the output head's products with a correction [..., E]."""

    def embed(self, tokens: Tensor) -> Tensor:
        """Return the rows [..., E] of the embedding table for tokens [...], as they are stored."""

    def close(self) -> None:
        """Forget the keys and values; the view's weights have no gradients from here on."""


@runtime_checkable
class TrainableTarget(ViewTarget, Protocol):
    """A target with the capability `training`: its views can be trained."""

    def dual_pass(self, view: str, flex: bool | None = None) -> DualPass:
        """Return the passes that train an attached view; flex: FlexAttention, dense masks, or what suits (None)."""
