"""Checks of drafters that read hidden states: after any history they draft as one that had the text as one prompt.

Others they do not apply to. The tables look at several tokens, so that several states have a say.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from orthrus.abilities import moves_rows
from orthrus.batch.context import Context
from orthrus.chance import Chance
from orthrus.decode import decode
from orthrus.interfaces import Drafter, Target
from orthrus.optional import ReadsTaps
from orthrus.reference.cache import PlainCache
from orthrus.testing.check import BrokenRuleError, Factory, NotApplicableError, check
from orthrus.testing.checks.contracts import forgetful
from orthrus.testing.doubles.arrivals import arriving
from orthrus.testing.doubles.spies import (
    FixedChance,
    Look,
    Proposals,
    Proposed,
    WatchedDrafter,
    compare,
    ending_in_time,
    proposals_into,
    proposed,
)
from orthrus.testing.doubles.tapped import ChunkedTarget, ExchangedNewest, ForeignColumns, WrittenOver
from orthrus.testing.doubles.verifiers import Dictated
from orthrus.testing.scenes import Scene
from orthrus.values import Draft, Verdict

PROMPTS = ((0, 1, 2, 3, 1), (2,), (1, 3, 0), (3, 2, 2, 1), (0, 3), (3,), (1, 0, 1, 2, 0, 3, 2))
BECAUSE = "when the whole text came as one prompt"
# Seeds are even where rows are to stay: rows that have ended stay in the target's passes then.
HISTORIES = [
    Scene(seed=seed, prompts=PROMPTS[first : first + rows], max_new_tokens=12, order=order)
    for seed, first, rows, order in ((0, 0, 1, 2), (2, 1, 2, 3), (4, 2, 3, 3))
]
CHUNKED = [
    Scene(seed=seed, prompts=PROMPTS[first : first + rows], max_new_tokens=2, order=order)
    for seed, first, rows, order in ((0, 0, 1, 2), (2, 0, 4, 3), (4, 1, 4, 3), (6, 3, 4, 3))
]
REFILLED = [
    Scene(seed=seed, prompts=PROMPTS[:rows], max_new_tokens=5, order=order, batch=batch)
    for seed, rows, order, batch in ((0, 2, 2, 1), (2, 6, 3, 1), (4, 7, 3, 2))
]
MOVED = [
    Scene(seed=seed, prompts=PROMPTS[:rows], limits=(9, 3, 7, 2, 6, 8, 4)[:rows], max_new_tokens=9, order=3)
    for seed, rows in ((1, 4), (3, 7))
]
PAIRS = tuple((1, 2, row // 4, row % 4) for row in range(16))
# What is drawn comes with probabilities, in which a change shows that moves no draft.
EXCHANGED = [
    Scene(seed=seed, prompts=PAIRS, max_new_tokens=8, order=order, temperature=0.8) for seed, order in ((0, 2), (2, 3))
]


@check("drafter", HISTORIES)
def taps_of_rejected_tokens_are_forgotten(make: Factory, scene: Scene) -> None:
    """After drafts of which any part was accepted it has the states of what was committed, and of nothing else."""
    target = scene.target()
    record = _decoded(scene, target, WatchedDrafter, _tapping(make, target))
    compare(scene, record, _as_prompts(make, scene, record), BECAUSE)


@check("drafter", CHUNKED)
def taps_of_every_chunk_are_read(make: Factory, scene: Scene) -> None:
    """The states of a prompt that comes in chunks are all there; a chunk may have none of a row that is shorter."""
    target = ChunkedTarget(scene.table(), PlainCache())
    target.moves_rows, target.chunk = False, 1 + scene.seed // 2
    record = _decoded(scene, target, WatchedDrafter, _tapping(make, target))
    compare(scene, record, _as_prompts(make, scene, record), BECAUSE)


@check("drafter", REFILLED)
def taps_of_a_refilled_row_are_its_own(make: Factory, scene: Scene) -> None:
    """In a row that another request had before there is none of its states, however short the new prompt is."""
    target = scene.target()
    record = _decoded(scene, target, WatchedDrafter, _tapping(make, target))
    compare(scene, record, _as_prompts(make, scene, record), BECAUSE)


@check("drafter", MOVED)
def taps_move_with_their_rows(make: Factory, scene: Scene) -> None:
    """While rows are added, moved and dropped, `move_rows` takes each row's states along: they do not come again."""
    target = scene.target()
    drafter = _tapping(make, target)
    record: Proposals = {}
    watched = WatchedDrafter(drafter, proposals_into(record))
    if not moves_rows(drafter):
        raise NotApplicableError("the drafter's rows do not move")
    for _ in arriving(scene, target, watched, Dictated(scene.seed), FixedChance(scene.seed)):
        pass
    compare(scene, record, _as_prompts(make, scene, record), BECAUSE)


@check("drafter", HISTORIES)
def taps_are_copied(make: Factory, scene: Scene) -> None:
    """What it keeps of the states that it is handed is a copy: the next pass may write over them."""
    target = scene.target()
    record = _decoded(scene, target, WrittenOver, _tapping(make, target))
    compare(scene, record, _as_prompts(make, scene, record), BECAUSE)


@check("drafter", EXCHANGED)
def taps_are_at_their_positions(make: Factory, scene: Scene) -> None:
    """Columns after those that count change no draft; where rows are handed each other's newest states, some change."""
    target = scene.target()
    record = _decoded(scene, target, ForeignColumns, _tapping(make, target))
    compare(scene, record, _as_prompts(make, scene, record), BECAUSE)
    target = scene.target()
    exchanged = _decoded(scene, target, ExchangedNewest, _tapping(make, target))
    firsts = [text for text in record if len(text[1]) == 1 and text in exchanged]
    if firsts and not any(record[text].differs(exchanged[text]) for text in firsts):
        value = f"{len(firsts)} rows were handed each other's newest states, and none of their drafts changed"
        raise BrokenRuleError(value, "the first drafts")


def _tapping(make: Factory, target: Target) -> Drafter:
    """Return the drafter; raise NotApplicableError if it learns, or reads no hidden states."""
    drafter = forgetful(make, target)
    if not isinstance(drafter, ReadsTaps) or not drafter.taps:
        raise NotApplicableError("the drafter reads no hidden states")
    return drafter


def _decoded(
    scene: Scene, target: Target, watched: Callable[[Drafter, Look], WatchedDrafter], drafter: Drafter
) -> Proposals:
    """Return every proposal for a row that goes on, in a dictated history."""
    record: Proposals = {}
    context = scene.context(target)
    spied = watched(drafter, proposals_into(record))
    steps = decode(target, spied, Dictated(scene.seed), context, FixedChance(scene.seed))
    for _ in ending_in_time(context, steps):
        pass
    return record


def _as_prompts(make: Factory, scene: Scene, record: Proposals) -> Proposals:
    """Return what a new drafter proposes for each text of a record, all but the newest token of it as one prompt."""
    numbers = {key: index for index, key in enumerate(scene.keys())}
    texts = [(numbers[key], key, output) for key, output in record]
    ids = scene.ids or range(len(scene.prompts))
    whole = replace(
        scene,
        prompts=tuple((*scene.prompts[index], *output[:-1]) for index, _, output in texts),
        limits=tuple(scene.stop(index).max_new_tokens - len(output) + 1 for index, _, output in texts),
        ids=tuple(ids[index] for index, _, _ in texts),
        batch=None,
    )
    target, firsts = whole.target(), dict[int, Proposed]()  # by request

    def look(context: Context, draft: Draft) -> None:
        for index, row in enumerate(context.rows):
            if row.finish_reason is None:
                firsts.setdefault(row.request, proposed(draft, index))

    watched, verifier = WatchedDrafter(make(target), look), _Continuing([output[-1] for _, _, output in texts])
    for _ in decode(target, watched, verifier, whole.context(target), FixedChance(scene.seed)):
        if firsts:  # of all rows: no cycle begins before every prompt is prefilled
            break
    return {(key, output): firsts[request] for request, (_, key, output) in enumerate(texts)}


class _Continuing:
    """Go on with one known token each."""

    greedy = False
    verifies_trees = True

    def __init__(self, tokens: Sequence[int]) -> None:
        self._tokens = tokens  # by request

    def verify(self, context: Context, draft: Draft, logits: Tensor, chance: Chance) -> Verdict:
        tokens = [self._tokens[row.request] if row.request >= 0 else 0 for row in context.rows]
        nothing = torch.zeros_like(context.lengths)
        last = None if draft.parents is None else nothing - 1
        return Verdict(nothing, torch.tensor(tokens, device=logits.device), last)


DRAFTER_TAPS = (
    taps_are_at_their_positions,
    taps_are_copied,
    taps_of_rejected_tokens_are_forgotten,
    taps_of_every_chunk_are_read,
    taps_of_a_refilled_row_are_its_own,
    taps_move_with_their_rows,
)
