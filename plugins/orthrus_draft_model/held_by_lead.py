"""The drafter where of several processes rank 0 alone holds the draft model: it tells, and the others follow."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypedDict

import torch

from orthrus import Chance, Context, Draft, Target
from orthrus.ranks.together import Alone
from orthrus_draft_model.drafter import DraftChoices, DraftModel, places_for
from orthrus_draft_model.facts import ModelFacts


class Drafting(TypedDict):
    """Options that a `DraftModel` has wherever its model is."""

    length: int
    auto: bool
    branches: int
    notify: Callable[[str], None]


class TellingDraftModel(DraftModel):
    """Draft with a model that this process alone holds, and tell the others what they cannot know."""

    def __init__(self, target: Target, own: Target, drafting: Drafting, facts: ModelFacts, together: Alone) -> None:
        """facts: as all processes have them."""
        super().__init__(target, own, facts=facts, **drafting)
        self._together = together

    def _rooms(self, context: Context) -> list[int]:
        """Return how many tokens can be drafted for each row, which the model's own cache bounds, too."""
        return _told(self._together, super()._rooms(context))

    def _draft(
        self, context: Context, rooms: Sequence[int], length: int, chance: Chance, confidence: float | None
    ) -> Draft:
        draft = super()._draft(context, rooms, length, chance, confidence)
        self._together.numbers(draft.passes)
        return draft


class FollowingDraftModel(DraftModel):
    """Draft as much as the process that holds the model, whose tokens take the place of those drafted here."""

    def __init__(self, target: Target, drafting: Drafting, facts: ModelFacts, together: Alone) -> None:
        """facts: of the model, as they were told."""
        super().__init__(target, None, facts=facts, **drafting)
        self._together = together

    def start(self, context: Context, rows: Sequence[int]) -> None:
        """Forget what is known of these rows by who chooses; there is nothing else."""
        if self._auto:
            self._auto.start(rows)

    def _rooms(self, context: Context) -> list[int]:
        """Return how many tokens are drafted for each row."""
        return _told(self._together, [0] * len(context.rows))

    def _draft(
        self, context: Context, rooms: Sequence[int], length: int, chance: Chance, confidence: float | None
    ) -> Draft:
        """Return a draft of the same shape, with as many passes."""
        choices = DraftChoices(context, chance, None, torch.tensor(rooms).to(context.device), self._branches)
        for _ in range(places_for(rooms, length, self._branches)):
            choices.add_unknown()
        (passes,) = self._together.numbers(0)
        return choices.draft(passes) if choices.places else replace(context.empty_draft(), passes=passes)


def held_by_lead(target: Target, make: Callable[[], Target], drafting: Drafting, together: Alone) -> DraftModel:
    """Return the drafter of this process, one of several; only the lead makes the draft model.

    All call it at the same time. Raises what making the model raises, in the lead.
    """
    own = make() if together.leads else None
    facts = None if own is None else ModelFacts.of(own, target)
    plain = None if facts is None else replace(facts, fingerprint=None)
    told, has_fingerprint = together.agree((plain, facts is not None and facts.fingerprint is not None))
    assert told is not None, "the lead tells them"
    if has_fingerprint:  # those who ask, in all processes, wait for the lead to read its weights
        told = replace(told, fingerprint=lambda: together.made_by_lead(lambda: _fingerprint(facts)))
    if own is None:
        return FollowingDraftModel(target, drafting, told, together)
    return TellingDraftModel(target, own, drafting, told, together)


def _fingerprint(facts: ModelFacts | None) -> str:
    assert facts is not None and facts.fingerprint is not None, "only the lead makes it, of a model that has one"
    return facts.fingerprint()


def _told(together: Alone, rooms: Sequence[int]) -> list[int]:
    return [int(room) for room in together.numbers(*rooms)]
