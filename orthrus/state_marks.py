"""Marks of recurrent states: how far back a target goes whose states cannot be cropped."""

from __future__ import annotations

from typing import Protocol, runtime_checkable


@runtime_checkable
class MarksStates(Protocol):
    """A target that may have layers whose states are not cropped: `keep` goes back no further than the last draft.

    Whoever lets it go further, as a draft model does for tokens that were drafted one by one, sets a mark before.
    """

    marks_states: bool  # whether it has such layers

    def mark(self) -> None:
        """Let later calls of `keep` go back to the lengths of now, whatever was scored and kept since."""
