"""Abilities of drafters: to draft ahead, to read the likeliest tokens, to say how they may be set wrongly."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from orthrus.values import Trial

if TYPE_CHECKING:
    from orthrus.batch.context import Context
    from orthrus.chance import Chance


@runtime_checkable
class DraftsAhead(Protocol):
    """A drafter that launches its next draft while the host waits for what was committed."""

    def ahead(self, context: Context, chance: Chance) -> bool | None:
        """Launch what the next `propose` returns, from what is on the device; return False if nothing was launched."""


@runtime_checkable
class PrefixConsistent(Protocol):
    """A drafter that says whether its draft follows from a row's committed text alone, a shorter one as its beginning.

    What was drafted or accepted before changes nothing then. `orthrus predict` asks it once, at its largest block.
    """

    prefix_consistent: bool


@runtime_checkable
class OffersTrials(Protocol):
    """A drafter that knows how it may have been set wrongly, for `orthrus doctor`."""

    def trials(self) -> Sequence[Trial]:
        """Return changes of its options that are worth trying, one thing each; none of them changes the target's text.

        They are relative to the options that it was made with. One with which the drafter cannot be made is passed
        over, with the reason.
        """


@runtime_checkable
class ReadsLikeliest(Protocol):
    """A drafter that wants the likeliest tokens of every scored place, in `step.likeliest`."""

    likeliest: int  # how many
