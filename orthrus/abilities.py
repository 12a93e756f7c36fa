"""Asks parts for their optional abilities on behalf of the loop, and does without where there are none."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING

from orthrus.batch.context import Context
from orthrus.batch.turn import FreeTurn, Turn
from orthrus.chance import Chance
from orthrus.interfaces import Drafter, Target
from orthrus.optional import DraftsAhead, MovesRows, PrefillsInChunks, TakesTurns

if TYPE_CHECKING:
    from torch import Tensor


def drafts_ahead(drafter: Drafter, context: Context, chance: Chance) -> Callable[[], None] | None:
    """Return what launches the drafter's next draft while the host reads; None if it does no such thing."""
    if isinstance(drafter, DraftsAhead) and callable(drafter.ahead):
        return partial(drafter.ahead, context, chance)
    return None


def turn_of(target: Target) -> Turn:
    """Return the target's turn; one that refuses nobody if the target has none."""
    return target.turn if isinstance(target, TakesTurns) else FreeTurn()


def begin(target: Target, turn: Turn, context: Context) -> None:
    """Begin a context's decoding on a target: every other decoding on it is refused from here on."""
    with turn.lock:
        turn.begin(context)
        target.start(context)


def prefill_chunks(target: Target, context: Context, rows: Sequence[int], chunks: bool) -> Iterator[Tensor | None]:
    """Yield the logits [B, 1, V] of a prefill once it is through; with chunks, None after each one before."""
    if chunks and isinstance(target, PrefillsInChunks):
        yield from target.prefill_chunks(context, rows)
    else:
        yield target.prefill(context, rows)


def moves_rows(part: object) -> bool:
    """Return whether a part's rows can be added, moved and taken away."""
    return isinstance(part, MovesRows) and part.moves_rows


def move_rows(target: Target, drafter: Drafter, context: Context, sources: Sequence[int]) -> None:
    """Tell target and drafter where each row comes from (see `MovesRows`).

    A drafter that cannot move its rows starts anew with all that go on: their prompts, and what is committed of them.
    """
    if isinstance(target, MovesRows) and target.moves_rows:
        target.move_rows(sources)
    if isinstance(drafter, MovesRows) and drafter.moves_rows:
        drafter.move_rows(sources)
        return
    if rows := [row for row, source in enumerate(sources) if source >= 0]:
        drafter.start(context, rows)
