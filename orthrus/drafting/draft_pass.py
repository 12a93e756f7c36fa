"""Drafters' forward passes with their pre- and post-processing, as one captured graph where the target supports it."""

from __future__ import annotations

from typing import Any, Literal

from torch import Tensor

from orthrus.batch.context import Context
from orthrus.errors import DraftError
from orthrus.optional import DraftingTarget, DraftPass
from orthrus.values import RowState


def run_draft_pass(
    target: Any,
    context: Context,
    draft_pass: DraftPass,
    *,
    view: str | None = None,
    kind: Literal["causal", "block"] = "block",
) -> Tensor:
    """Return what a drafter's pass makes of its logits: by the target's `draft` if it has one, else by its `forward`.

    It lives until the next pass. target: a `ViewTarget`.
    """
    if isinstance(target, DraftingTarget):
        _check_hashable(draft_pass)
        return target.draft(context, draft_pass, view=view, kind=kind)
    rows = RowState(context.lengths, context.anchors, context.room)
    columns = draft_pass.positions(rows)
    logits: Tensor = target.forward(context, draft_pass.tokens(rows), columns, view=view, kind=kind)  # [B, width, V]
    return draft_pass.result(rows, logits[:, :-1])


def _check_hashable(draft_pass: DraftPass) -> None:
    """Raise DraftError for a pass that cannot be told from others; engines keep what they record of it by its value."""
    try:
        hash(draft_pass)
    except TypeError as error:
        name = type(draft_pass).__name__
        raise DraftError(f"the draft pass '{name}' has no hash; make it a frozen dataclass of plain values") from error
