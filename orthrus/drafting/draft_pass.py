"""A drafter's pass with what stands around it: as one where the target can, else step by step."""

from __future__ import annotations

from typing import Any, Literal

from torch import Tensor

from orthrus.batch.context import Context
from orthrus.errors import DraftError
from orthrus.optional import DraftPass
from orthrus.values import RowState


def run_draft_pass(
    target: Any,
    context: Context,
    one: DraftPass,
    *,
    view: str | None = None,
    kind: Literal["causal", "block"] = "block",
) -> Tensor:
    """Return what a drafter's pass makes of its logits: by the target's `draft` if it has one, else by its `forward`.

    It lives until the next pass. target: a `ViewTarget`.
    """
    if callable(getattr(target, "draft", None)):
        _check_hashable(one)
        result: Tensor = target.draft(context, one, view=view, kind=kind)
        return result
    rows = RowState(context.lengths, context.anchors, context.room)
    columns = one.positions(rows)
    logits = target.forward(context, one.tokens(rows), columns, view=view, kind=kind)  # [B, width, V]
    return one.result(rows, logits[:, :-1])


def _check_hashable(one: DraftPass) -> None:
    """Raise DraftError for a pass that cannot be told from others; engines keep what they record of it by its value."""
    try:
        hash(one)
    except TypeError as error:
        name = type(one).__name__
        raise DraftError(f"the draft pass '{name}' has no hash; make it a frozen dataclass of plain values") from error
