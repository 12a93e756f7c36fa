"""Passes without drafts that are launched before the host knows what the one before committed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

from orthrus.batch.context import Context
from orthrus.batch.scheduler import Scheduler
from orthrus.interfaces import Drafter, Target


@runtime_checkable
class DraftsNothing(Protocol):
    """A drafter that says whether it never drafts, so that every cycle is one token of the target's own."""

    drafts_nothing: bool


@runtime_checkable
class ScoresAhead(Protocol):
    """A target that can score the empty draft of what is on the device, as long as the host has not read it."""

    scores_ahead: bool  # whether it does, as it was made

    def score_ahead(self, context: Context, choices: bool = False) -> object:
        """Launch the pass whose logits the next `score` of the empty draft returns, if nothing comes in between.

        choices: whether `score_choices` will be called instead, which only a target is told that `scores_choices`.
        """


def scores_ahead(
    target: Target, drafter: Drafter, scheduler: Scheduler, chooses: bool = False
) -> Callable[[], object] | None:
    """Return what launches the next cycle's pass while the host reads what this one committed; None if nothing can.

    chooses: whether choices are scored where no row wants anything of logits (see `orthrus.choices`).

    A row that ends without the host expecting it has a pass for nothing. Nothing is launched where a prefill comes
    first: a row ends that a prompt waits for, or a prompt is under way in chunks.
    """
    if not (isinstance(drafter, DraftsNothing) and drafter.drafts_nothing):
        return None
    if not (isinstance(target, ScoresAhead) and target.scores_ahead):
        return None

    context = scheduler.context

    def launch() -> None:
        refills = context.waiting and context.min_room < 1
        if context.max_room > 0 and not (refills or scheduler.standing):
            if chooses and context.settings.plain:
                target.score_ahead(context, choices=True)
            else:
                target.score_ahead(context)

    return launch
