"""Checks of a drafter's rows: many, alike, moved, ended together or by a stop string, each with its settings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from orthrus.errors import InputError
from orthrus.reference.verifiers import PlainConsensus
from orthrus.testing.check import Factory, NotApplicableError, check
from orthrus.testing.checks.contracts import forgetful, make_drafter
from orthrus.testing.doubles.arrivals import arriving
from orthrus.testing.doubles.spies import (
    FixedChance,
    Proposals,
    WatchedDrafter,
    compare,
    compare_texts,
    decoded,
    proposals_into,
    recorded,
)
from orthrus.testing.doubles.verifiers import Dictated
from orthrus.testing.scenes import Scene

GROUP = 13  # rows that are decoded together for comparison: fewer than any group of rows that a kernel works in
MANY = [
    Scene(
        seed=seed,
        prompts=tuple((index % 4, index // 4 % 3, index % 3)[: 1 + index % 3] for index in range(130)),
        max_new_tokens=4,
        temperature=temperature,
    )
    for seed, temperature in ((2, 0.0), (3, 0.8))
]
# With a context of 10 tokens the first two rows have room for 2 and end in the first cycle; the third goes on.
TOGETHER = [
    Scene(
        seed=seed,
        prompts=((0, 1, 2, 0, 1, 2, 0, 1), (2, 2, 1, 0, 2, 2, 1, 0), (1, 0, 1), (0, 2, 1, 1), (2, 0), (1, 1, 0, 2, 1)),
        max_new_tokens=7,
        max_length=10,
        batch=3,
    )
    for seed in range(4)
]
EQUAL = [
    Scene(seed=seed, prompts=((0, 1, 0, 2),) * 4, max_new_tokens=9, batch=batch)
    for seed, batch in ((0, None), (1, None), (2, 2), (3, 1))
]
STRINGS = [
    Scene(
        seed=seed,
        prompts=((0, 1, 0, 1), (1, 0), (0, 0, 1), (1, 1, 0), (0, 1), (1, 0, 1)),
        max_new_tokens=14,
        stop_strings=("aa", "b"),
        batch=batch,
        vocabulary=3,
    )
    for seed, batch in ((0, 1), (1, 1), (2, 1), (3, 2), (4, 2), (5, 3))
]
MOVING = [
    Scene(
        seed=seed,
        prompts=tuple((index % 3, index % 2, index % 4)[: 1 + index % 3] for index in range(10)),
        limits=(9, 3, 14, 2, 6, 12, 1, 8, 4, 10),
        max_new_tokens=14,
    )
    for seed in (1, 3, 5)
]
MIXED = [
    Scene(
        seed=seed,
        prompts=((0, 1, 2), (2, 1), (0, 1, 2), (1, 1, 0, 1), (3, 0)),
        max_new_tokens=8,
        temperatures=temperatures,
    )
    for seed, temperatures in (
        (1, (0.3, 1.5, 0.9, 1.5, 0.3)),
        (2, (0.0, 1.5, 0.0, 0.4, 1.0)),
        (4, (1.2, 0.0, 1.2, 0.0, 1.2)),
    )
]


@check("drafter", MANY)
def many_rows_are_independent(make: Factory, scene: Scene) -> None:
    """Of 130 rows each is proposed what it is among 13, though kernels work in groups of 16, 32 or 128 rows."""
    _hold_alike(make, scene, _groups(len(scene.prompts), GROUP), f"among {GROUP} rows")


@check("drafter", TOGETHER)
def rows_may_end_together(make: Factory, scene: Scene) -> None:
    """Where rows end in one cycle, those that go on and those that come next are proposed what each is alone."""
    _hold_alike(make, scene, _groups(len(scene.prompts), 1), "alone")


@check("drafter", EQUAL)
def equal_prompts_are_told_apart(make: Factory, scene: Scene) -> None:
    """Rows with one prompt and different answers are proposed what each is alone."""
    _hold_alike(make, scene, _groups(len(scene.prompts), 1), "alone")


@check("drafter", STRINGS)
def stop_strings_leave_no_trace(make: Factory, scene: Scene) -> None:
    """Where a stop string ends a row, which the host alone sees, what was drafted ahead for it is no other row's."""
    target = scene.target()
    compare_texts(decoded(scene, target, make_drafter(make, target), PlainConsensus()), scene.truths(scene.target()))
    _hold_alike(make, scene, _groups(len(scene.prompts), 1), "alone")


@check("drafter", MOVING)
def rows_may_move(make: Factory, scene: Scene) -> None:
    """While rows are added, moved and dropped, by `move_rows` or a new `start`, each is proposed what it is alone."""
    target = scene.target()
    drafter = forgetful(make, target)
    record: Proposals = {}
    watched = WatchedDrafter(drafter, proposals_into(record))
    for _ in arriving(scene, target, watched, Dictated(scene.seed), FixedChance(scene.seed)):
        pass
    compare(scene, record, _apart(make, scene, _groups(len(scene.prompts), 1)), "alone")


@check("drafter", MIXED)
def rows_have_settings_of_their_own(make: Factory, scene: Scene) -> None:
    """Among rows of other temperatures each is proposed what it is alone: `context.settings` has a row's own."""
    try:
        _hold_alike(make, scene, _groups(len(scene.prompts), 1), "alone, at its own temperature")
    except InputError as error:  # of `context.sampling`, which rows that differ do not have
        raise NotApplicableError(f"it works where all rows have the same settings: {error}") from error


def _hold_alike(make: Factory, scene: Scene, groups: Iterator[Sequence[int]], because: str) -> None:
    """Raise BrokenRuleError if a row is proposed something else than with a drafter that has its group alone."""
    target = scene.target()
    actual = recorded(scene, target, forgetful(make, target), Dictated(scene.seed))
    compare(scene, actual, _apart(make, scene, groups), because)


def _apart(make: Factory, scene: Scene, groups: Iterator[Sequence[int]]) -> Proposals:
    expected: Proposals = {}
    for group in groups:
        target = scene.target()
        expected |= recorded(scene.part(group), target, make_drafter(make, target), Dictated(scene.seed))
    return expected


def _groups(count: int, size: int) -> Iterator[Sequence[int]]:
    return (range(first, min(first + size, count)) for first in range(0, count, size))


DRAFTER_ROWS = (
    many_rows_are_independent,
    rows_may_end_together,
    equal_prompts_are_told_apart,
    stop_strings_leave_no_trace,
    rows_may_move,
    rows_have_settings_of_their_own,
)
