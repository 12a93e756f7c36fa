"""Protocols of draft passes that read hidden states, and of targets that hand them over. B: rows, V: vocabulary."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

from orthrus.optional import DraftingTarget
from orthrus.values import RowState

if TYPE_CHECKING:
    from torch import Tensor


@runtime_checkable
class ReadsDraftStates(Protocol):
    """A `DraftPass` whose result is also made of hidden states, on targets that hand them over. h: hidden size."""

    def result_of_states(self, rows: RowState, logits: Tensor, states: Tensor) -> Tensor:
        """Return what is wanted of the logits [B, width - 1, V] and the states [B, width - 1, h] that they are of."""


@runtime_checkable
class DraftStatesTarget(DraftingTarget, Protocol):
    """A target whose `draft` calls `result_of_states` of passes that have it. h: its hidden size.

    The states are those after the final norm, which the output head is applied to.
    """

    hidden_size: int

    def embed(self, tokens: Tensor) -> Tensor:
        """Return the rows [..., h] of the embedding table for tokens [...], as they are stored."""

    def head_rows(self, tokens: Tensor) -> Tensor:
        """Return the rows [..., h] of the output head's matrix for tokens [...], as they are stored."""


@runtime_checkable
class LendsTables(Protocol):
    """A target whose tables a drafter's kernels may read themselves. V: vocabulary, h: hidden size."""

    def tables(self) -> tuple[Tensor, Tensor] | None:
        """Return the matrices [V, h] whose rows `embed` and `head_rows` give, contiguous, on the device.

        None: this process holds them in another form, or a part of them.
        """
