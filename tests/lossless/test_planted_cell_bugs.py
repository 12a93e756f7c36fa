"""Random cells see what they are there to see: a planted bug of each dimension is noticed by one of its first cells."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import count, islice
from typing import Any
from unittest import mock

import pytest
from support import random_cells
from support.families import RECURRENT
from support.random_cells import Cell, judged
from support.random_targets import target_of
from support.recordings import Again
from support.thorough import nightly_but
from torch import Tensor

from orthrus import session
from orthrus.batch import scores
from orthrus_caches.offloaded import OffloadedCache
from orthrus_caches.paged import PagedCache
from orthrus_caches.static import StaticCache
from orthrus_transformers.engines.fused import FusedEngine
from orthrus_transformers.engines.graph_recorder import packed, unpacked
from orthrus_transformers.recurrent.scored_pass import ScoredPass
from orthrus_transformers.target import TransformersTarget

CELLS = 16  # of a kind, one of which has to notice
BESIDE = ("one pass", "auto cycle")


@dataclass(frozen=True)
class Planted:
    """Another function in the place of an attribute. of: which cells it concerns. made: of the function before."""

    of: Callable[[Cell], bool]
    owner: Any
    name: str
    made: Callable[[Any], Callable[..., Any]]


def nothing(own: Any) -> Callable[..., None]:
    return lambda *args: None


def exchanged(own: Any) -> Callable[..., None]:
    def move(self: Any, sources: Sequence[int]) -> None:
        held = [source for source in sources if source >= 0]  # of which the last is taken first
        own(self, [held.pop() if source >= 0 else source for source in sources])

    return move


def place_before(own: Any) -> Callable[..., Tensor]:
    return lambda *args: own(*args).roll(1, 1)


def scored_place_before(own: Any) -> Callable[..., Any]:
    def score(*args: Any) -> Any:
        logits, predictions = own(*args)
        return logits.roll(1, 1), predictions

    return score


def stale(own: Any) -> Callable[..., None]:
    def write(self: Again) -> None:
        self.output.copy_(self.run(unpacked(self.like, packed(self.like))))

    return write


def one_too_many(own: Any) -> Callable[..., Tensor]:
    return lambda pending, lengths: (lengths - pending.starts + 1).clamp(max=pending.columns)


BUGS = {
    "the path of a tree is not moved": Planted(
        lambda cell: "tree" in cell.drafter and cell.cache.startswith("static"), StaticCache, "move_slots", nothing
    ),
    "nor is it over blocks": Planted(
        lambda cell: "tree" in cell.drafter and cell.cache.startswith("paged"), PagedCache, "move_slots", nothing
    ),
    "rows over blocks are exchanged": Planted(
        lambda cell: cell.cache.startswith("paged"), PagedCache, "move_rows", exchanged
    ),
    "rows on the host are exchanged": Planted(
        lambda cell: cell.cache == "offloaded", OffloadedCache, "move_rows", exchanged
    ),
    "a recording runs over the inputs that it was made with": Planted(
        lambda cell: "recorded" in cell.engine, Again, "_write", stale
    ),
    "blocks beside a draft shift its logits": Planted(
        lambda cell: cell.drafter.startswith(BESIDE), TransformersTarget, "score_with_blocks", scored_place_before
    ),
    "blocks that share the draft's walk do": Planted(
        lambda cell: cell.drafter.startswith(BESIDE) and "joined" in cell.engine, FusedEngine, "_joined", place_before
    ),
    "a state keeps a token too many": Planted(
        lambda cell: cell.family in RECURRENT and not cell.drafter.startswith(("none", "draft model")),
        ScoredPass,
        "counts",
        one_too_many,
    ),
    "the seeds of requests do not count": Planted(
        lambda cell: cell.session and cell.verifier == "coupled",
        session,
        "seeded_key",
        lambda own: lambda key, seed, other: key,
    ),
    "scores are those of the place before": Planted(
        lambda cell: cell.session,
        scores,
        "gathered",
        lambda own: lambda logits, tokens, likeliest: own(logits.roll(1, 1), tokens, likeliest),
    ),
}


@pytest.mark.parametrize("what", nightly_but([], BUGS, thorough=["the path of a tree is not moved"]))
def test_some_cell_notices(what: str) -> None:
    bug = BUGS[what]
    concerned = islice(filter(bug.of, map(Cell.drawn, count())), CELLS)
    noticed = next((cell for cell in concerned if notices(cell, bug)), None)
    assert noticed is not None, f"none of {CELLS} cells notices"
    assert judged(noticed).mismatches == (), "without the bug all is right"


def notices(cell: Cell, bug: Planted) -> bool:
    """Tell whether answers are wrong with a bug. An error is none of the oracle's mismatches: it is raised."""
    with planted(bug):
        return judged(cell).mismatches != ()


@contextmanager
def planted(bug: Planted) -> Iterator[None]:
    """Plant a bug as soon as a cell's target is made: what a target checks at load is not to notice it."""
    own = getattr(bug.owner, bug.name)

    def with_bug(*args: Any) -> TransformersTarget:
        target = target_of(*args)
        bugs.enter_context(mock.patch.object(bug.owner, bug.name, bug.made(own)))
        return target

    with ExitStack() as bugs, mock.patch.object(random_cells, "target_of", with_bug):
        yield
