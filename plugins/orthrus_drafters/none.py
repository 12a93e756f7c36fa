"""The drafter `none`."""

from __future__ import annotations

from collections.abc import Sequence

from orthrus import Chance, Context, Draft, Parts, Step


class NoDrafter:
    """Propose nothing, so that every cycle is one token of the target's own."""

    name = "none"
    needs: frozenset[str] = frozenset()
    learns = False
    prefix_consistent = True
    moves_rows = True
    drafts_nothing = True

    def start(self, context: Context, rows: Sequence[int]) -> None:
        """Do nothing: there is nothing to remember."""

    def move_rows(self, sources: Sequence[int]) -> None:
        """Do nothing: there is nothing to remember."""

    def propose(self, context: Context, chance: Chance) -> Draft:
        """Return the empty draft."""
        return context.empty_draft()

    def observe(self, step: Step) -> None:
        """Do nothing: there is nothing to remember."""


def make(options: object, parts: Parts) -> NoDrafter:
    """Return the drafter."""
    return NoDrafter()
