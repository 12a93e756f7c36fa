"""Checks of a target where tables are small: many rows, long prompts and drafts, two at once, rows alike or moved."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import zip_longest

from orthrus.chance import Chance
from orthrus.decode import decode
from orthrus.interfaces import Target
from orthrus.optional import MovesRows
from orthrus.reference.cache import PlainCache
from orthrus.testing.check import Factory, NotApplicableError, check
from orthrus.testing.checks.target_passes import (
    EVERY_ROW,
    compared,
    hold_scores,
    scripted,
    spread_over,
)
from orthrus.testing.doubles.arrivals import arriving
from orthrus.testing.doubles.spies import WatchedVerifier, ending_in_time
from orthrus.testing.doubles.verifiers import Dictated
from orthrus.testing.scenes import Scene
from orthrus.values import Step

SOME_ROWS = (0, 1, 15, 16, 31, 32, 33, 63, 64, 127, 128, 129)  # beside the edges of groups that kernels work in
MANY = Scene(
    seed=2,
    prompts=tuple(((index % 4, index // 4 % 4, 1, 2)[: 1 + index % 4]) for index in range(130)),
    max_new_tokens=4,
)
LONG_DRAFTS = Scene(seed=3, prompts=((0, 1), (2, 1, 3)), max_new_tokens=44)
LENGTHS = ((16, 1), (32, 33), (64, 31), (127, 128, 129), (256, 3), (300, 64), (512, 2))  # chunks are powers of two
EQUAL = Scene(seed=4, prompts=((0, 2, 1, 3),) * 3, max_new_tokens=9)
# The first two rows have room for 2 and end in the first cycle; the third goes on.
TOGETHER = Scene(
    seed=5,
    prompts=((0, 1, 2, 0, 1), (2, 2, 1, 0, 3), (1, 0), (0, 2, 1), (2, 0, 1), (1, 1, 0)),
    limits=(2, 2, 9, 2, 2, 5),
    max_new_tokens=9,
    batch=3,
)
ARRIVING = Scene(
    seed=7,
    prompts=tuple((index % 4, index % 3, 3 - index % 4, 1)[: 1 + index % 4] for index in range(10)),
    limits=(9, 3, 12, 2, 6, 10, 1, 8, 4, 7),
    max_new_tokens=12,
)


@check("target", [MANY])
def many_rows_are_scored(make: Factory, scene: Scene) -> None:
    """A pass over 130 rows gives each its own logits, though kernels work in groups of 16, 32 or 128 rows."""
    hold_scores(make(PlainCache()), scene, rows=SOME_ROWS)


@check("target", [LONG_DRAFTS])
def long_drafts_are_scored(make: Factory, scene: Scene) -> None:
    """A draft of 40 tokens gets the logits after each of them."""
    target: Target = make(PlainCache())
    if target.max_length is not None:
        scene = replace(scene, max_new_tokens=min(scene.max_new_tokens, target.max_length - 3))
    hold_scores(target, scene, cycles=2, lengths=(40,))


@check("target", [Scene(seed=6, max_new_tokens=3)])
def long_prompts_are_prefilled(make: Factory, scene: Scene) -> None:
    """Prompts of 300 tokens, and of exactly 16, 32, 64, 128, 256 and 512, get their own logits, and what follows."""
    target: Target = make(PlainCache())
    most = max(LENGTHS)[0] if target.max_length is None else target.max_length - scene.max_new_tokens
    held = [lengths for lengths in LENGTHS if max(lengths) <= most]
    if not held:
        raise NotApplicableError(f"its max_length is {target.max_length}: no prompt is long")
    for lengths in held:
        prompts = tuple(tuple((index * 5 + length) % 11 for index in range(length)) for length in lengths)
        hold_scores(target, replace(scene, prompts=prompts))


@check("target", [EQUAL])
def equal_prompts_are_told_apart(make: Factory, scene: Scene) -> None:
    """Rows with one prompt and different answers get the logits of their own texts."""
    hold_scores(make(PlainCache()), scene)


@check("target", [TOGETHER, replace(TOGETHER, seed=6, batch=2)])
def rows_may_end_together(make: Factory, scene: Scene) -> None:
    """Where several rows end in one cycle, those that go on and those that come next get their own logits."""
    hold_scores(make(PlainCache()), scene)


@check("target", [ARRIVING])
def rows_may_move(make: Factory, scene: Scene) -> None:
    """While requests come and go, and `move_rows` adds, moves and drops rows, each gets the logits of its own text."""
    target: Target = make(PlainCache())
    if not (isinstance(target, MovesRows) and target.moves_rows):
        raise NotApplicableError("the target does not declare `moves_rows`")
    scene = spread_over(scene, target)
    watched = WatchedVerifier(Dictated(scene.seed), compared(target, None, EVERY_ROW))
    for _ in arriving(scene, target, scripted(scene, target), watched, Chance(scene.seed)):
        pass


@check("target", [replace(EQUAL, prompts=((0, 1), (2, 1, 0)))])
def targets_do_not_meet(make: Factory, scene: Scene) -> None:
    """Two targets of one factory that decode in turns, as one that drafts for the other, give their own logits."""
    targets: list[Target] = [make(PlainCache()), make(PlainCache())]
    if targets[0] is targets[1]:
        raise NotApplicableError("its factory makes one target and no second")
    scenes = [scene, replace(scene, seed=scene.seed + 1, prompts=((3, 0, 2, 1), (1,)), ids=(5, 6))]
    for _ in zip_longest(*map(_turns, targets, scenes)):
        pass


def _turns(target: Target, scene: Scene) -> Iterator[Step]:
    scene = spread_over(scene, target)
    context = scene.context(target)
    watched = WatchedVerifier(Dictated(scene.seed), compared(target, None, EVERY_ROW))
    drafter = scripted(scene, target)
    return ending_in_time(context, decode(target, drafter, watched, context, Chance(scene.seed)))


TARGET_SIZES = (
    many_rows_are_scored,
    long_drafts_are_scored,
    long_prompts_are_prefilled,
    equal_prompts_are_told_apart,
    rows_may_end_together,
    rows_may_move,
    targets_do_not_meet,
)
