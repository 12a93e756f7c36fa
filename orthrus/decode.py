"""The decode loop. Plain decoding is the same loop with an empty draft; the prefill is its first step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from torch import Tensor

from orthrus.abilities import (
    begin,
    drafts_ahead,
    fit_of,
    free_rows,
    in_order,
    likeliest_for,
    may_move,
    move_rows,
    note_restored,
    prefill_chunks,
    turn_of,
)
from orthrus.accepted_path import keep_accepted_path
from orthrus.batch.context import Context
from orthrus.batch.scheduler import Scheduler
from orthrus.chance import Chance
from orthrus.choices import choices_for
from orthrus.decision import Decided, Decision
from orthrus.interfaces import Drafter, Target, Verifier
from orthrus.one_pass import scoring_of
from orthrus.optional import name_of
from orthrus.ranks.together import together_of
from orthrus.score_ahead import scores_ahead
from orthrus.step_recorder import StepRecorder
from orthrus.taps import tap_for
from orthrus.trees import check_trees, drafts_trees, reads_trees
from orthrus.values import Draft, Step


def decode(
    target: Target,
    drafter: Drafter,
    verifier: Verifier,
    context: Context,
    chance: Chance,
    under_way: Scheduler | None = None,
) -> Iterator[Step]:
    """Yield every step until all prompts are answered, as `decode_in_turns` does; raise what a tokenizer raises."""
    for step in filter(None, decode_in_turns(target, drafter, verifier, context, chance, under_way)):
        if "failed" in step.finished:  # a session tells the request's owner, and goes on
            raise next(row.error for row in context.rows if row.error is not None)
        yield step


@torch.no_grad()
def decode_in_turns(
    target: Target,
    drafter: Drafter,
    verifier: Verifier,
    context: Context,
    chance: Chance,
    under_way: Scheduler | None = None,
    recorder: StepRecorder | None = None,
) -> Iterator[Step | None]:
    """Yield every step until all prompts are answered: a prefill of the rows that have a new prompt, or a cycle.

    None: a chunk of prompts was passed over, and no row goes on beside them; who asked for them may have gone.

    Everything is batched and ragged, and there is one host sync a step: in `scheduler.commit`. under_way: the
    scheduler of a session, which has begun on the target; None: the decoding begins. recorder: of what watchers are
    told; None: nobody watches.
    """
    turn, together, choices = turn_of(target), together_of(target), choices_for(target, drafter, verifier, recorder)
    check_trees(target, drafter, verifier)
    if under_way is None:
        begin(target, turn, context)
    moves, fit, trees, reads = may_move(target, drafter), fit_of(target), drafts_trees(drafter), reads_trees(drafter)
    scheduler = under_way or Scheduler(  # its only writer
        context, name_of(drafter), moves=moves, fit=fit, trees=trees, reads_trees=reads
    )
    taps, likeliest = tap_for(target, drafter, context), likeliest_for(drafter)
    plain, ahead = scores_ahead(target, drafter, scheduler, choices is not None), drafts_ahead(drafter, context, chance)
    calls = drafter.propose, scoring_of(target, drafter), verifier.verify, prefill_chunks, plain or ahead
    propose, score, verify, prefill, ahead = calls if recorder is None else recorder.noting(*calls, plain is not None)
    decision = Decision(context, chance, score, verify, choices, together.several)
    after_prefill = in_order(taps.deliver_prompts if taps else None, plain)
    after_cycle = in_order(taps.deliver_scored if taps else None, ahead)  # what is launched reads what is delivered

    def conclude(draft: Draft, decided: Decided, committed: Callable[[], object] | None, reads: bool = False) -> Step:
        verdict, logits = together.verdict(decided.verdict), decided.logits  # the lead's, of ranks
        if draft.parents is not None:  # a tree: its accepted path is a chain from here on
            draft, verdict, logits = keep_accepted_path(target, taps, context, draft, verdict, logits, bool(likeliest))
        best = likeliest(logits) if likeliest and reads and logits is not None else None  # before they are written over
        step = scheduler.commit(draft, verdict, committed, logits)
        target.keep(step)  # the cache's length is the position of the anchor, always
        return step if best is None else replace(step, likeliest=best)

    def prefilled(rows: list[int], logits: Tensor) -> Step:
        rows = scheduler.seat(rows)
        note_restored(target, context, rows)
        step = conclude(draft := context.empty_draft(), decision.of(draft, logits), after_prefill)  # logits [B, 1, V]
        drafter.start(context, rows)
        return step

    def cycle() -> Step:
        draft = scheduler.check(together.draft(propose(context, chance)))  # tokens [B, n], lengths [B]
        step = conclude(draft, decision.scored(draft), after_cycle, reads=True)
        drafter.observe(step)
        return step

    rows: list[int] = []  # that are prefilled, chunk by chunk
    while scheduler.live:
        with turn.taken(context), together.step():
            if sources := scheduler.arrange():  # B follows the requests that go on and that wait
                move_rows(target, drafter, context, sources)
            if not rows and (rows := scheduler.refill()):  # rows that are free take the prompts that wait
                chunks = prefill(target, context, rows, scheduler.interleaves)
            free_rows(target, context, scheduler.take_idle())
            if rows and scheduler.abandoned:  # those who asked have gone
                rows = []
                if taps:
                    taps.forget_prompts()
            if rows and (logits := next(chunks)) is not None:
                step, rows = prefilled(rows, logits), []
            elif scheduler.seated:
                step = cycle()
            else:
                step = None  # a chunk is through, beside which nobody goes on
            free_rows(target, context, scheduler.take_idle())  # of those that have ended
        yield step
