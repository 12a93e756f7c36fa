"""Stops capturing draft passes that never hit the CUDA-graph cache."""

from __future__ import annotations

import warnings

from orthrus import DraftPass

MOST = 16  # different passes of one kind and width, of which none came again


class Repeats:
    """The passes of each kind and width since one of them came again."""

    def __init__(self) -> None:
        self._seen: dict[tuple[type, int], set[DraftPass]] = {}
        self._given_up: set[type] = set()

    def given_up(self, draft_pass: DraftPass | None) -> bool:
        """Tell whether passes of this kind are recorded no more."""
        return type(draft_pass) in self._given_up

    def came_again(self, draft_pass: DraftPass) -> None:
        """Note that a recording of the pass is replayed."""
        self._seen.pop((type(draft_pass), draft_pass.width), None)

    def gives_up(self, draft_pass: DraftPass) -> bool:
        """Note that there is no recording of the pass; tell whether it is one too many, and warn, once a kind.

        A pass that was seen and has no recording came again all the same: in another shape, or its recording is gone.
        """
        seen = self._seen.setdefault((type(draft_pass), draft_pass.width), set())
        if draft_pass in seen:
            seen.clear()
        seen.add(draft_pass)
        if len(seen) <= MOST:
            return False
        self._given_up.add(type(draft_pass))
        self._seen = {key: passes for key, passes in self._seen.items() if key[0] is not type(draft_pass)}
        warnings.warn(
            f"the draft pass '{type(draft_pass).__name__}' hardly ever equals an earlier one: {MOST} in turn had a CUDA"
            " graph each and none came again, so it runs uncaptured from now on; make it a frozen dataclass of plain"
            " values",
            stacklevel=2,
        )
        return True
