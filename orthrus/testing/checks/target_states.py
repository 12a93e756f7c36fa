"""Checks of a target with states that are not cropped: they are what the committed tokens leave, and no others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from orthrus.batch.context import Context
from orthrus.batch.scheduler import Scheduler
from orthrus.interfaces import Target
from orthrus.reference.cache import PlainCache
from orthrus.state_marks import MarksStates
from orthrus.testing.check import Factory, NotApplicableError, check
from orthrus.testing.checks.target_passes import hold_close, spread_over
from orthrus.testing.scenes import Scene
from orthrus.values import Draft, Step, Verdict

ACCEPTED = ((0, 3, 1), (2, 0, 3), (3, 3, 0), (1, 0, 2))  # of 3 drafted tokens in 3 rows, cycle by cycle
THREE = Scene(seed=8, prompts=((0,), (1, 2, 3, 0, 1), (2, 2, 1)), max_new_tokens=24)


@check("target", [THREE])
def states_are_taken_back(make: Factory, scene: Scene) -> None:
    """Where drafts are rejected in whole, in part and not at all, in rows at once, no state holds a rejected token."""
    target, scene = _marking(make, scene)
    context = scene.context(target)
    target.start(context)
    scheduler = Scheduler(context)
    target.prefill(context, scheduler.refill())
    draft, accepted = context.empty_draft(), (0, 0, 0)
    for following in ACCEPTED:
        target.keep(
            scheduler.commit(draft, Verdict(torch.tensor(accepted, device=target.device), context.tokens[:, 0]))
        )
        tokens = (context.tokens[:, :1] + torch.arange(1, 4, device=target.device)) % target.vocabulary_size
        draft, accepted = Draft(tokens, torch.full_like(context.lengths, 3)), following
        texts = [[*row.prompt, *row.output] for row in context.rows]
        _hold(target, context, draft, texts, f"cycle {context.cycle + 1}")


@check("target", [THREE])
def states_go_back_to_a_mark(make: Factory, scene: Scene) -> None:
    """After several scored tokens, all kept but the last, `keep` goes back to the mark before them."""
    target, scene = _marking(make, scene)
    context = scene.context(target)
    target.start(context)
    scheduler = Scheduler(context)
    target.prefill(context, scheduler.refill())
    nothing = torch.zeros_like(context.lengths)
    target.keep(scheduler.commit(context.empty_draft(), Verdict(nothing, context.tokens[:, 0])))
    texts = [[*row.prompt, *row.output] for row in context.rows]
    target.mark()
    for attempt in (1, 2):
        for place in range(3):
            _hold(target, context, context.empty_draft(), texts, f"attempt {attempt}, token {place + 1}")
            if place < 2:
                _go_on(target, context, texts, (place + attempt) % target.vocabulary_size)
        texts = [text[:-2] for text in texts]
        _go_to(target, context, texts)
    _hold(target, context, context.empty_draft(), texts, "after both attempts")


def _marking(make: Factory, scene: Scene) -> tuple[Any, Scene]:
    target: Target = make(PlainCache())
    if not (isinstance(target, MarksStates) and target.marks_states):
        raise NotApplicableError("the target does not mark states: `keep` crops all that it holds")
    return target, spread_over(scene, target)


def _go_on(target: Target, context: Context, texts: Sequence[list[int]], token: int) -> None:
    """Commit a token of each row as who drafts with a target does, past the scheduler."""
    for text in texts:
        text.append(token)
    _go_to(target, context, texts)


def _go_to(target: Target, context: Context, texts: Sequence[Sequence[int]]) -> None:
    """Let the target hold these texts, the last token of each to be scored next."""
    context.lengths = torch.tensor([len(text) for text in texts], device=target.device)
    context.anchors = torch.tensor([text[-1] for text in texts], device=target.device)
    for row, text in zip(context.rows, texts, strict=True):
        row.length = len(text)
    rows = len(texts)
    target.keep(Step(0, (), context.lengths, ((),) * rows, (0,) * rows, (None,) * rows, 1))


def _hold(target: Target, context: Context, draft: Draft, texts: Sequence[Sequence[int]], place: str) -> None:
    """Score a draft, and compare the logits with those of the texts from scratch."""
    scored = target.score(context, draft)
    for row, (text, tokens) in enumerate(zip(texts, draft.tokens.tolist(), strict=True)):
        own = target.logits([*text, *tokens], len(tokens) + 1)
        for index in range(len(tokens) + 1):
            hold_close(target, scored[row, index], own[index], f"row {row} in {place}, place {index}")


TARGET_STATES = (states_are_taken_back, states_go_back_to_a_mark)
