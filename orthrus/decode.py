"""The decode loop. Plain decoding is the same loop with an empty draft; the prefill is its first step."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from orthrus.abilities import begin, drafts_ahead, move_rows, moves_rows, prefill_chunks, turn_of
from orthrus.batch.context import Context
from orthrus.batch.scheduler import Scheduler
from orthrus.chance import Chance
from orthrus.interfaces import Drafter, Target, Verifier
from orthrus.optional import name_of
from orthrus.sampling.logits_processor import LogitsProcessor
from orthrus.values import Draft, Step


@torch.no_grad()
def decode(
    target: Target,
    drafter: Drafter,
    verifier: Verifier,
    context: Context,
    chance: Chance,
    under_way: Scheduler | None = None,
) -> Iterator[Step]:
    """Yield every step until all prompts are answered: a prefill of the rows that have a new prompt, or a cycle.

    Everything is batched and ragged, and there is one host sync a step: in `scheduler.commit`. under_way: the
    scheduler of a session, which has begun on the target; None: the decoding begins.
    """
    turn, process = turn_of(target), LogitsProcessor.of(context)
    if under_way is None:
        begin(target, turn, context)
    scheduler = under_way or Scheduler(context, name_of(drafter), moves=moves_rows(target))  # the context's only writer
    ahead = drafts_ahead(drafter, context, chance)

    def conclude(draft: Draft, logits: Tensor, ahead: Callable[[], None] | None = None) -> Step:
        processed = process(context, draft, logits)  # penalties, temperature, top-k, ...
        verdict = verifier.verify(context, draft, processed, chance)  # accepted [B], next_tokens [B]
        step = scheduler.commit(draft, verdict, ahead, logits)
        target.keep(step)  # the cache's length is the position of the anchor, always
        return step

    def prefilled(rows: list[int], logits: Tensor) -> Step:
        rows = scheduler.seat(rows)
        step = conclude(context.empty_draft(), logits)  # logits [B, 1, V]
        drafter.start(context, rows)
        return step

    def cycle() -> Step:
        draft = scheduler.check(drafter.propose(context, chance))  # tokens [B, n], lengths [B]
        step = conclude(draft, target.score(context, draft), ahead)  # logits [B, n + 1, V]
        drafter.observe(step)
        return step

    rows: list[int] = []  # that are prefilled, chunk by chunk
    while scheduler.live:
        with turn.taken(context):
            if sources := scheduler.arrange():  # B follows the requests that go on and that wait
                move_rows(target, drafter, context, sources)
            if not rows and (rows := scheduler.refill()):  # rows that are free take the prompts that wait
                chunks = prefill_chunks(target, context, rows, scheduler.interleaves)
            if rows and scheduler.abandoned:  # those who asked have gone
                rows = []
            if rows and (logits := next(chunks)) is not None:
                step, rows = prefilled(rows, logits), []
            elif scheduler.seated:
                step = cycle()
            else:
                continue
        yield step
