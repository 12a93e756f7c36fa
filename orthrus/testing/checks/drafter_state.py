"""Checks of a drafter's state: histories, rows, prompts, chance, and what belongs to others."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import zip_longest
from typing import Any

import torch

from orthrus.batch.context import Context
from orthrus.chance import Chance
from orthrus.errors import shown
from orthrus.interfaces import Drafter
from orthrus.optional import DraftsAhead, ReadsTaps, name_of
from orthrus.reference.cache import PlainCache
from orthrus.reference.view_table import ViewTableTarget
from orthrus.testing.check import BrokenRuleError, Factory, check
from orthrus.testing.checks.contracts import forgetful, hold_declared, make_drafter
from orthrus.testing.doubles.spies import FixedChance, Proposals, compare, decoded, recorded, recording
from orthrus.testing.doubles.verifiers import Dictated, Spelled
from orthrus.testing.scenes import Scene, ladder
from orthrus.trees import drafts_trees, reads_trees
from orthrus.values import Draft, Step, TappedStates

SCENES = [*ladder(14), *ladder(5, temperature=0.8)]
BATCHES = [
    replace(scene, prompts=scene.prompts + ((0, 1, 0, 1, 0),) * (len(scene.prompts) < 2), batch=batch)
    for batch in (1, 2, None)
    for scene in SCENES[:7]
]


@check("drafter", SCENES)
def history_leaves_no_trace(make: Factory, scene: Scene) -> None:
    """After any history of accepted and rejected drafts it proposes what it would had the text come token by token."""
    target = scene.target()
    actual = recorded(scene, target, forgetful(make, target), Dictated(scene.seed))
    texts = _texts(make, scene)
    fresh_target = scene.target()
    expected = recorded(scene, fresh_target, make_drafter(make, fresh_target), Spelled(texts))
    compare(scene, actual, expected, "when the same text came token by token")


@check("drafter", BATCHES)
def rows_are_independent(make: Factory, scene: Scene) -> None:
    """A row is proposed the same alone, in a batch of any size, and in a row that another prompt had before."""
    target = scene.target()
    actual = recorded(scene, target, forgetful(make, target), Dictated(scene.seed))
    expected: Proposals = {}
    for index in range(len(scene.prompts)):
        fresh_target = scene.target()
        expected |= recorded(scene.alone(index), fresh_target, make_drafter(make, fresh_target), Dictated(scene.seed))
    compare(scene, actual, expected, "alone")


@check("drafter", SCENES)
def prompts_leave_no_trace(make: Factory, scene: Scene) -> None:
    """A drafter that does not declare `learns` proposes for a prompt what it would had there been none before."""
    target = scene.target()
    drafter = forgetful(make, target)
    turned = tuple((*reversed(prompt), 1, 0) for prompt in reversed(scene.prompts))
    decoded(replace(scene, prompts=turned, seed=scene.seed + 1), target, drafter, Dictated(scene.seed + 1))
    actual = recorded(scene, target, drafter, Dictated(scene.seed))
    fresh_target = scene.target()
    expected = recorded(scene, fresh_target, make_drafter(make, fresh_target), Dictated(scene.seed))
    compare(scene, actual, expected, "as a drafter that saw no other prompts")


@check("drafter", SCENES)
def drafters_do_not_meet(make: Factory, scene: Scene) -> None:
    """Two drafters of one factory that decode in turns propose what each does by itself."""
    scenes = [scene, replace(scene, seed=scene.seed + 1, prompts=scene.prompts[::-1])]
    turns: list[tuple[Proposals, Iterator[Step]]] = []
    for variant in scenes:
        target = variant.target()
        record: Proposals = {}
        steps = recording(variant, target, make_drafter(make, target), Dictated(variant.seed), record)
        turns.append((record, steps))
    for _ in zip_longest(*(steps for _, steps in turns)):
        pass
    for variant, (record, _) in zip(scenes, turns, strict=True):
        target = variant.target()
        compare(
            variant,
            record,
            recorded(variant, target, make_drafter(make, target), Dictated(variant.seed)),
            "by itself",
        )


@check("drafter", SCENES)
def chance_is_all_that_is_random(make: Factory, scene: Scene) -> None:
    """The same seed gives the same drafts: all that is random comes from `chance`; no other generator is touched."""
    records = []
    with torch.random.fork_rng(devices=[]), _numpy_restored():
        for seed in (1, 2):
            torch.manual_seed(seed)
            if numpy := sys.modules.get("numpy"):
                numpy.random.seed(seed)  # whoever sets the state that it has by chance would not be seen
            before = _generators()
            target = scene.target()
            drafter = make_drafter(make, target)
            records.append(recorded(scene, target, drafter, Dictated(scene.seed), Chance(scene.seed)))
            used = [name for name, state in _generators().items() if state != before.get(name, state)]
            if used:
                value = f"a generator of {' and '.join(used)} was used or set"
                raise BrokenRuleError(value, "between the first draft and the last")
    compare(scene, records[0], records[1], "with the same seed again")


@check("drafter", SCENES)
def inputs_are_left_alone(make: Factory, scene: Scene) -> None:
    """A drafter changes nothing of the context, nor of the steps that it observes."""
    target = scene.target()
    guarded = _Guarded(make_drafter(make, target), _state)
    decoded(scene, target, guarded, Dictated(scene.seed))


@check("drafter", SCENES)
def committed_slots_are_left_alone(make: Factory, scene: Scene) -> None:
    """A drafter's passes write scratch slots only: committed keys and values stay, and so does their number."""
    cache = PlainCache()
    target = ViewTableTarget(scene.table(), cache, max_length=scene.max_length)
    guarded = _Guarded(make_drafter(make, target), lambda context: _slots(context, cache))
    decoded(scene, target, guarded, Dictated(scene.seed))


@check("drafter", ladder(3))
def declares_itself(make: Factory, scene: Scene) -> None:
    """It says what it needs, a set of capabilities' names, and whether it learns, True or False."""
    hold_declared("drafter", make_drafter(make, scene.target()))


@contextmanager
def _numpy_restored() -> Iterator[None]:
    """Leave numpy's generator as it was, if it was there."""
    numpy: Any = sys.modules.get("numpy")
    state = numpy.random.get_state() if numpy else None
    try:
        yield
    finally:
        if numpy:
            numpy.random.set_state(state)


def _generators() -> dict[str, str]:
    """Return the states of the generators that anybody may reach; numpy's once somebody has imported it."""
    numpy: Any = sys.modules.get("numpy")
    states: dict[str, Any] = {"torch": torch.get_rng_state().tolist(), "random": random.getstate()}
    if numpy is not None:
        kind, words, *rest = numpy.random.get_state()
        states["numpy"] = (kind, words.tolist(), rest)
    return {name: repr(state) for name, state in states.items()}


def _slots(context: Context, cache: PlainCache) -> dict[str, Any]:
    """Return what a drafter's pass must leave alone; while it drafts ahead the cache does not know yet how much."""
    slots = {
        f"the key and value of layer {layer}, row {row}, slot {slot}": pair
        for (layer, row, slot), pair in cache.committed((context.lengths - 1).tolist()).items()
    }
    lengths = {"context.lengths": context.lengths.tolist(), "the cache's lengths": cache.lengths.tolist()}
    return {**lengths, **slots}


def _texts(make: Factory, scene: Scene) -> dict[int, tuple[int, ...]]:
    """Return the texts of the dictated history, by the requests' keys."""
    target = scene.target()
    answers = decoded(scene, target, make_drafter(make, target), Dictated(scene.seed), FixedChance(scene.seed))
    return {key: answer.token_ids for key, answer in zip(scene.keys(), answers, strict=True)}


class _Guarded:
    """A drafter of which `state` is compared before and after each call."""

    needs: frozenset[str] = frozenset()

    def __init__(self, drafter: Drafter, state: Callable[[Context], Mapping[str, Any]]) -> None:
        self._drafter = drafter
        self._state = state
        self.name = name_of(drafter)
        self.learns = drafter.learns
        if isinstance(drafter, DraftsAhead):
            self.ahead = self._ahead  # the loop looks whether there is one
        self.drafts_trees, self.reads_trees = drafts_trees(drafter), reads_trees(drafter)
        if isinstance(drafter, ReadsTaps):
            self.taps, self.read_taps = drafter.taps, self._read_taps

    def start(self, context: Context, rows: Sequence[int]) -> None:
        self._context = context
        with self._guarded_call("start"):
            self._drafter.start(context, rows)

    def propose(self, context: Context, chance: Chance) -> Draft:
        with self._guarded_call("propose"):
            return self._drafter.propose(context, chance)

    def _ahead(self, context: Context, chance: Chance) -> None:
        with self._guarded_call("ahead"):
            self._drafter.ahead(context, chance)  # type: ignore[attr-defined]  # optional: this is for those that have it

    def _read_taps(self, context: Context, tapped: TappedStates) -> None:
        self._context = context
        with self._guarded_call("read_taps"):
            self._drafter.read_taps(context, tapped)  # type: ignore[attr-defined]  # as above

    def observe(self, step: Step) -> None:
        lengths = step.lengths.tolist()
        with self._guarded_call("observe"):
            self._drafter.observe(step)
        if step.lengths.tolist() != lengths:
            raise BrokenRuleError("it changed the step's lengths", "observe")

    @contextmanager
    def _guarded_call(self, call: str) -> Iterator[None]:
        before = self._state(self._context)
        yield
        after = self._state(self._context)
        for name in {**before, **after}:
            old, new = before.get(name, "nothing"), after.get(name, "nothing")
            if old != new:
                cycle = self._context.cycle + 1
                raise BrokenRuleError(f"it changed {name} from {shown(old)} to {shown(new)}", f"{call}, cycle {cycle}")


def _state(context: Context) -> dict[str, Any]:
    """Return all that a drafter may read, and must not write."""
    tensors = ("tokens", "lengths", "room", "keys", "prompt_lengths", "anchors")
    rows = [
        (row.prompt, tuple(row.output), row.room, row.length, row.finish_reason, row.stop, row.sampling)
        for row in context.rows
    ]
    empty = context.empty_draft()
    return {
        **{f"context.{name}": getattr(context, name).tolist() for name in tensors},
        "context.rows": rows,
        "the empty draft": (empty.tokens.shape, empty.lengths.tolist()),
        "context.cycle": context.cycle,
        "context.settings": context.settings,
    }


DRAFTER_STATE = (
    declares_itself,
    history_leaves_no_trace,
    rows_are_independent,
    prompts_leave_no_trace,
    drafters_do_not_meet,
    chance_is_all_that_is_random,
    inputs_are_left_alone,
    committed_slots_are_left_alone,
)
