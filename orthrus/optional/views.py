"""Abilities of targets whose layers have further attentions, and passes through them. B: rows, n: tokens of each."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

from orthrus.interfaces import Target
from orthrus.values import RowState

if TYPE_CHECKING:
    from torch import Tensor

    from orthrus.batch.context import Context


@runtime_checkable
class ViewTarget(Target, Protocol):
    """A target with the capability `views`: each layer may have further attentions, which a pass can go through."""

    name: str  # what messages call the model
    directory: Path | None  # where its files are, if it came from files
    view_names: Collection[str]  # of the views that are attached

    def attach_view(self, name: str, weights: Mapping[str, Tensor] | None = None) -> None:
        """Give every layer a second attention: these weights, or copies of the model's own.

        Raises BuildError if the name is taken, the weights do not fit, or the model cannot have a view.
        """

    def detach_view(self, name: str) -> None:
        """Forget a view; raise BuildError if there is none of this name."""

    def view_weights(self, name: str) -> Mapping[str, Tensor]:
        """Return a view's weights, not copies, by the names of the model's weights that they stand beside."""

    def fingerprint(self) -> str:
        """Return what tells the model's own weights from others, whatever dtype they are computed in."""

    def forward(
        self,
        context: Context,
        tokens: Tensor,
        positions: Tensor,
        *,
        view: str | None = None,
        kind: Literal["causal", "block"] = "block",
    ) -> Tensor:
        """Return the logits [B, n, V] of tokens [B, n] that follow what is committed, writing scratch slots only.

        positions [B, n]: one after the other from the anchor's; columns that a row does not use come first, repeat the
        anchor's position and are not seen by the others. view None: the model's own attention. kind: as in a mask.
        """


class DraftPass(Protocol):
    """A drafter's forward pass with its pre- and post-processing: its tokens, and the result of its logits.

    Where a target can, it records all of that as one, so the methods compute on the device from their arguments alone,
    and read no value. Passes that are equal (`==`) share a recording. The last column is not projected onto the
    vocabulary, because what follows a draft is not asked for.
    """

    @property
    def width(self) -> int:
        """The tokens of a row that it is over, 2 or more."""

    @property
    def spare(self) -> bool:
        """Whether a row may use fewer; its spare columns come first and repeat the anchor's position."""

    def tokens(self, rows: RowState) -> Tensor:
        """Return the tokens [B, width] of the pass."""

    def positions(self, rows: RowState) -> Tensor:
        """Return their positions [B, width]; asked for if `spare`, else they follow one another from the anchor's."""

    def result(self, rows: RowState, logits: Tensor) -> Tensor:
        """Return what is wanted of the logits [B, width - 1, V]."""


@runtime_checkable
class DraftingTarget(Protocol):
    """A target that runs a drafter's pass with its pre- and post-processing as one; see `run_draft_pass`."""

    def draft(
        self,
        context: Context,
        draft_pass: DraftPass,
        *,
        view: str | None = None,
        kind: Literal["causal", "block"] = "block",
    ) -> Tensor:
        """Return the pass's result, which may be written over by the next such pass; scratch slots only are written.

        Where rows are is read from the context on the device, never from the cache, which may be one step behind.
        """
