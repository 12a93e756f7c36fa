"""Delivers hidden states of a target's passes to a drafter that reads them, once the tokens are committed."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from orthrus.batch.context import Context
from orthrus.errors import BuildError
from orthrus.interfaces import Drafter, Target
from orthrus.optional import ReadsTaps, TappedTarget, name_of
from orthrus.values import TappedStates


class TapDelivery:
    """Hands states over as soon as the token after each of them is known, on the device.

    Those of a prompt's last chunk wait for the first token, those of a scored draft for the verdict.
    """

    def __init__(self, drafter: ReadsTaps, context: Context) -> None:
        self._drafter = drafter
        self._context = context
        self._ends: list[TappedStates] = []  # last chunks of prompts
        self._scored: tuple[Tensor, Tensor] | None = None

    def prompt(self, tapped: TappedStates, last: bool) -> None:
        """Take a chunk of prompts."""
        if last:
            self._ends.append(tapped)
        else:
            self._drafter.read_taps(self._context, tapped)

    def scored(self, states: Tensor, starts: Tensor) -> None:
        """Take the states of a scored draft."""
        self._scored = states, starts

    def follow(self, along: Callable[[Tensor], Tensor]) -> None:
        """Bring a tree's states [B, n + 1, T h] into the order in which those of its accepted path come first."""
        assert self._scored is not None, "a tree was scored"
        states, starts = self._scored
        self._scored = along(states), starts

    def forget_prompts(self) -> None:
        """Leave out prompts of which nobody waits for an answer."""
        self._ends.clear()

    def deliver_prompts(self) -> None:
        """Hand over the ends of the prompts that a prefill has passed over; their first tokens are committed."""
        for tapped in self._ends:
            self._drafter.read_taps(self._context, tapped)
        self._ends.clear()

    def deliver_scored(self) -> None:
        """Hand over a cycle's states; how many count says where the anchor is now."""
        assert self._scored is not None, "every cycle scores"
        states, starts = self._scored
        self._scored = None
        self._drafter.read_taps(self._context, TappedStates(states, starts, self._context.lengths - 1 - starts))


def tap_for(target: Target, drafter: Drafter, context: Context) -> TapDelivery | None:
    """Tap the target for a drafter that reads hidden states, and for no other; return what delivers them, if any.

    Raises BuildError if the target has none.
    """
    if not isinstance(drafter, ReadsTaps) or not drafter.taps:
        if isinstance(target, TappedTarget):
            target.tap((), None)
        return None
    if not isinstance(target, TappedTarget):
        raise BuildError(f"drafter '{name_of(drafter)}' reads hidden states, and the target has none to offer")
    delivery = TapDelivery(drafter, context)
    target.tap(tuple(drafter.taps), delivery)
    return delivery
