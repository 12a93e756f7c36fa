"""Arrivals: a scene decoded as a session does, its requests coming one by one, rows added, moved and dropped."""

from __future__ import annotations

from collections.abc import Iterator

from orthrus.abilities import begin, may_move, turn_of
from orthrus.batch.context import Context
from orthrus.batch.scheduler import Scheduler
from orthrus.chance import Chance
from orthrus.decode import decode
from orthrus.interfaces import Drafter, Target, Verifier
from orthrus.optional import name_of
from orthrus.testing.check import BrokenRuleError
from orthrus.testing.scenes import Scene
from orthrus.trees import drafts_trees, reads_trees
from orthrus.values import Step

TOGETHER = 8  # rows at most


def arriving(
    scene: Scene, target: Target, drafter: Drafter, verifier: Verifier, chance: Chance
) -> Iterator[tuple[Context, Step]]:
    """Yield the steps of a scene with the context; two prompts are there at first, and with each step comes another.

    So passes are over 2, 4 and 8 rows in turn, and once nothing comes any more over fewer and fewer.
    """
    context = Context(
        [],
        scene.stop(),
        vocabulary_size=target.vocabulary_size,
        max_length=target.max_length,
        device=target.device,
        tokenizer=target.tokenizer,
        sampling=scene.sampling(),
    )
    moves, trees, reads = may_move(target, drafter), drafts_trees(drafter), reads_trees(drafter)
    scheduler = Scheduler(context, name_of(drafter), moves=moves, capacity=TOGETHER, trees=trees, reads_trees=reads)
    begin(target, turn_of(target), context)
    waiting = scene.requests()
    most = sum(request.stop.max_new_tokens + 1 for request in waiting)
    for request in (waiting.pop(0), waiting.pop(0)):
        scheduler.add(request)
    for count, step in enumerate(decode(target, drafter, verifier, context, chance, scheduler)):
        if count >= most:
            raise BrokenRuleError(f"decoding goes on after {most} steps, which were enough for every token", "the loop")
        yield context, step
        if waiting:
            scheduler.add(waiting.pop(0))
