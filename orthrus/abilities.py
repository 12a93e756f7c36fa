"""Asks parts for their optional abilities on behalf of the loop, and does without where there are none."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, TypeGuard

from orthrus.batch.context import Context
from orthrus.batch.turn import FreeTurn, Turn
from orthrus.chance import Chance
from orthrus.errors import InputError
from orthrus.interfaces import Drafter, Target
from orthrus.optional import (
    BoundsRows,
    BoundsSlots,
    DraftsAhead,
    FreesRows,
    MovesRows,
    PrefillsInChunks,
    ReadsLikeliest,
    ReadsTaps,
    RestoresPrefixes,
    TakesTurns,
)
from orthrus.settings import Stop
from orthrus.values import LikeliestTokens

if TYPE_CHECKING:
    from torch import Tensor


def drafts_ahead(drafter: Drafter, context: Context, chance: Chance) -> Callable[[], object] | None:
    """Return what launches the drafter's next draft while the host reads; None if it does no such thing."""
    if isinstance(drafter, DraftsAhead) and callable(drafter.ahead):
        return partial(drafter.ahead, context, chance)
    return None


def in_order(first: Callable[[], object] | None, then: Callable[[], object] | None) -> Callable[[], object] | None:
    """Return what calls one after the other, leaving out what is None; None if both are."""
    if first is None or then is None:
        return first or then

    def both() -> None:
        first()
        then()

    return both


def likeliest_for(drafter: Drafter) -> Callable[[Tensor], LikeliestTokens] | None:
    """Return what makes a step's likeliest tokens of logits [B, n + 1, V], if the drafter wants them."""
    if not isinstance(drafter, ReadsLikeliest):
        return None
    count = drafter.likeliest

    def likeliest(logits: Tensor) -> LikeliestTokens:
        best = logits.topk(min(count, logits.shape[-1]), dim=-1)
        return LikeliestTokens(best.indices, best.values)

    return likeliest


def turn_of(target: Target) -> Turn:
    """Return the target's turn; a target that has none is given one, as all who use it must share it."""
    if not isinstance(target, TakesTurns):
        try:
            target.turn = Turn()  # type: ignore[attr-defined]  # on purpose: the target is the one object they share
        except AttributeError:  # it takes no attributes
            return FreeTurn()
    assert isinstance(target, TakesTurns)
    return target.turn


def check_slots(target: Target, id: str, prompt: int, stop: Stop) -> None:
    """Raise InputError if a prompt of so many tokens and its answer may need more slots than a row may have."""
    most = target.max_slots if isinstance(target, BoundsSlots) else None
    room = stop.max_new_tokens if target.max_length is None else min(stop.max_new_tokens, target.max_length - prompt)
    _check_fit(target, f"request '{id}'", prompt, room)
    if most is not None and prompt + room > most:
        raise InputError(
            f"request '{id}' may need {prompt + room} slots ({prompt} tokens and {room} new ones), more than"
            f" cache.max_slots={most}; set cache.max_slots={prompt + room} or a smaller stop.max_new_tokens"
        )


def _check_fit(target: Target, what: str, prompt: int, room: int) -> None:
    """Raise InputError if a target's memory does not hold a prompt of so many tokens and its answer, even alone."""
    why = target.refusal([prompt + room]) if isinstance(target, BoundsRows) else None
    if why is not None:
        raise InputError(
            f"{what} may need {prompt + room} slots ({prompt} tokens and {room} new ones), and the cache does not hold"
            f" them: {why}"
        )


def fit_of(target: Target) -> Callable[[Sequence[int]], bool] | None:
    """Return what tells whether rows that come to so many slots each can go on together; None: any can."""
    if not isinstance(target, BoundsRows):
        return None
    refusal = target.refusal
    return lambda slots: refusal(slots) is None


def free_rows(target: Target, context: Context, rows: Sequence[int]) -> None:
    """Let a target give back what it holds of rows that have ended, if it can."""
    if rows and isinstance(target, FreesRows):
        target.free_rows(context, rows)


def note_restored(target: Target, context: Context, rows: Sequence[int]) -> None:
    """Note in rows that were prefilled how much of their prompts was not passed over."""
    if isinstance(target, RestoresPrefixes) and target.restores_prefixes:
        for row in rows:
            context.rows[row].restored = target.restored(row)


def begin(target: Target, turn: Turn, context: Context) -> None:
    """Begin a context's decoding on a target: every other decoding on it is refused from here on.

    Raises InputError for a request that the target's memory does not hold even alone.
    """
    fit = fit_of(target)
    for row in context.requests if fit else ():
        _check_fit(target, f"prompt {row.request}", len(row.prompt), row.room)
    with turn.lock:
        turn.begin(context)
        target.start(context)


def prefill_chunks(target: Target, context: Context, rows: Sequence[int], chunks: bool) -> Iterator[Tensor | None]:
    """Yield the logits [B, 1, V] of a prefill once it is through; with chunks, None after each one before."""
    if chunks and isinstance(target, PrefillsInChunks):
        yield from target.prefill_chunks(context, rows)
    else:
        yield target.prefill(context, rows)


def moves_rows(part: object) -> TypeGuard[MovesRows]:
    """Return whether a part's rows can be added, moved and taken away."""
    return isinstance(part, MovesRows) and part.moves_rows


def may_move(target: Target, drafter: Drafter) -> bool:
    """Return whether B may follow the requests that go on.

    What a drafter has of hidden states it has once, so that one that reads them must be able to move its rows.
    """
    return moves_rows(target) and (moves_rows(drafter) or not isinstance(drafter, ReadsTaps))


def move_rows(target: Target, drafter: Drafter, context: Context, sources: Sequence[int]) -> None:
    """Tell target and drafter where each row comes from (see `MovesRows`).

    A drafter that cannot move its rows starts anew with all that go on: their prompts, and what is committed of them.
    """
    if moves_rows(target):
        target.move_rows(sources)
    if moves_rows(drafter):
        drafter.move_rows(sources)
        return
    if rows := [row for row, source in enumerate(sources) if source >= 0]:
        drafter.start(context, rows)
