"""Trees of drafts: what parts say of themselves, and why parts do not go together. B: rows, n: tokens, H: heads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from orthrus.errors import BuildError
from orthrus.interfaces import Drafter, KVCache, Target, Verifier
from orthrus.optional import name_of

if TYPE_CHECKING:
    from torch import Tensor

    from orthrus.batch.context import Context


@runtime_checkable
class DraftsTrees(Protocol):
    """A drafter that says whether its drafts may be trees (`Draft.parents`), as it was made."""

    drafts_trees: bool


@runtime_checkable
class ReadsTrees(Protocol):
    """A drafter that wants to know which tokens of its trees were kept, in `step.trees`."""

    reads_trees: bool


@runtime_checkable
class VerifiesTrees(Protocol):
    """A verifier that says whether it verifies trees; its verdicts of them say which token is the last (`last`)."""

    verifies_trees: bool


@dataclass(frozen=True)
class TreeObstacle:
    """What keeps a target from scoring trees: a part of it, why, and what to set instead.

    kind: `attention`, `cache`, `engine` or `target`. part: what messages call it, unless a config has a name for it.
    """

    kind: str
    part: str
    reason: str  # "has no tree masks"
    remedy: str  # "set attention.name=sdpa"


@runtime_checkable
class ScoresTrees(Protocol):
    """A target that scores trees, unless a part of it cannot."""

    def tree_obstacle(self) -> TreeObstacle | None:
        """Return what keeps it from scoring trees; None: nothing does."""

    def keep_path(self, context: Context, order: Tensor) -> None:
        """Put the keys of an accepted path where those of a chain would be: on the device, before anything is drafted.

        order [B, n]: of the draft that was scored last, the token whose keys go to the place of token i, never an
        earlier one. Called before the step is committed, so that `context.lengths` are those of the scored pass.
        """


@runtime_checkable
class MovesSlots(Protocol):
    """A KV cache in which tokens of a scored tree can be moved to where a chain's would be."""

    def move_slots(self, first: Tensor, order: Tensor) -> None:
        """Let slot first [B] + i of each row have what its slot first + order [B, n] at i has, on the device.

        Nothing moves to a later slot: order >= i.
        """


def drafts_trees(drafter: Drafter) -> bool:
    """Tell whether a drafter's drafts may be trees."""
    return isinstance(drafter, DraftsTrees) and drafter.drafts_trees


def reads_trees(drafter: Drafter) -> bool:
    """Tell whether a drafter wants to know which tokens of its trees were kept."""
    return isinstance(drafter, ReadsTrees) and drafter.reads_trees


def verifies_trees(verifier: Verifier) -> bool:
    """Tell whether a verifier verifies trees."""
    return isinstance(verifier, VerifiesTrees) and verifier.verifies_trees


def check_trees(target: Target, drafter: Drafter, verifier: Verifier, names: Mapping[str, str] | None = None) -> None:
    """Raise BuildError if a drafter drafts trees and another part cannot take them; names: of parts, by their kind."""
    if not drafts_trees(drafter):
        return
    known = dict(names or {})
    drafting = f"drafter '{known.get('drafter', name_of(drafter))}' drafts trees"
    if not verifies_trees(verifier):
        name = known.get("verifier", type(verifier).__name__)
        raise BuildError(
            f"{drafting}, and verifier '{name}' verifies chains only; set verifier.name=coupled, or let it draft chains"
        )
    if not isinstance(target, ScoresTrees):
        raise BuildError(
            f"{drafting}, and target '{known.get('target', name_of(target))}' scores chains only; let it draft chains"
        )
    if obstacle := target.tree_obstacle():
        name = known.get(obstacle.kind, obstacle.part)
        raise BuildError(
            f"{drafting}, and {obstacle.kind} '{name}' {obstacle.reason}; {obstacle.remedy}, or let it draft chains"
        )


def slots_obstacle(cache: KVCache) -> TreeObstacle | None:
    """Return what keeps a cache from holding a tree; None: nothing does."""
    if isinstance(cache, MovesSlots):
        return None
    return TreeObstacle(
        "cache",
        type(cache).__name__,
        "cannot move the keys of an accepted branch",
        "set cache.name=dynamic, static or paged",
    )
