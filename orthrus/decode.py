"""The decode loop. Plain decoding is the same loop with an empty draft; the prefill is its first step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor

from orthrus.batch.context import Context
from orthrus.batch.scheduler import Scheduler
from orthrus.chance import Chance
from orthrus.interfaces import Drafter, Target, Verifier
from orthrus.sampling.logits_processor import LogitsProcessor
from orthrus.values import Draft, Step


@torch.no_grad()
def decode(target: Target, drafter: Drafter, verifier: Verifier, context: Context, chance: Chance) -> Iterator[Step]:
    """Yield every step until all prompts are answered: a prefill of the rows that have a new prompt, or a cycle.

    Everything is batched and ragged, and there is one host sync a step: in `scheduler.commit`.
    """

    def conclude(draft: Draft, logits: Tensor, ahead: Callable[[], None] | None = None) -> Step:
        logits = process(context, draft, logits)  # penalties, temperature, top-k, ...
        verdict = verifier.verify(context, draft, logits, chance)  # accepted [B], next_tokens [B]
        step = scheduler.commit(draft, verdict, ahead)
        target.keep(step)  # the cache's length is the position of the anchor, always
        return step

    scheduler = Scheduler(context, getattr(drafter, "name", type(drafter).__name__))  # the context's only writer
    process = LogitsProcessor.of(context)
    target.start(context)
    early = getattr(drafter, "ahead", None)
    ahead = partial(early, context, chance) if callable(early) else None
    while scheduler.live:
        if rows := scheduler.refill():  # rows that are free take the prompts that wait
            yield conclude(context.empty_draft(), target.prefill(context, rows))  # logits [B, 1, V]
            drafter.start(context, rows)
            continue
        draft = scheduler.check(drafter.propose(context, chance))  # tokens [B, n], lengths [B]
        step = conclude(draft, target.score(context, draft), ahead)  # logits [B, n + 1, V]
        drafter.observe(step)
        yield step
