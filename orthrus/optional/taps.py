"""Abilities around hidden states: targets that hand them on, drafters that read them. B: rows, n: tokens of each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from orthrus.interfaces import Target
from orthrus.values import TappedStates, TapPoint

if TYPE_CHECKING:
    from torch import Tensor

    from orthrus.batch.context import Context


class TapReader(Protocol):
    """What a tapped target hands the hidden states of its passes to, as soon as a pass is launched."""

    def prompt(self, tapped: TappedStates, last: bool) -> None:
        """Take the states of a chunk of prompts; last: whether these prompts end with it."""

    def scored(self, states: Tensor, starts: Tensor) -> None:
        """Take the states [B, n + 1, T h] of a scored draft: of the anchor at positions starts [B], then of its tokens.

        How many of them stay is known once the step is committed.
        """


@runtime_checkable
class TappedTarget(Target, Protocol):
    """A target with the capabilities `hidden_states` and `embeddings`. h: its hidden size."""

    hidden_size: int
    layer_count: int

    def tap(self, points: Sequence[TapPoint], reader: TapReader | None) -> None:
        """From now on hand the states at these points of its own passes to a reader; no points: to nobody.

        Drafts' passes are not tapped. Raises BuildError for a point that the model does not have.
        """

    def embed(self, tokens: Tensor) -> Tensor:
        """Return the rows [B, n, h] of the embedding table for tokens [B, n], as they are stored."""

    def head(self, hidden: Tensor) -> Tensor:
        """Return the output head's products [B, n, V] of states [B, n, h] after a final norm."""


@runtime_checkable
class ReadsTaps(Protocol):
    """A drafter that reads hidden states of the target at points that it declares.

    Its rows must be able to move where the target's can (`MovesRows`), or B stays what it is.
    """

    taps: Sequence[TapPoint]

    def read_taps(self, context: Context, tapped: TappedStates) -> None:
        """Take the states of committed tokens: of every one but the newest, once, in the order of their positions.

        Those of a prompt come chunk by chunk before `start`, from position 0 on, which begins the row anew; those of a
        cycle once its tokens are committed on the device, before the next draft is launched and before `observe`.
        """
