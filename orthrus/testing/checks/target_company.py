"""Check of targets that rows do not see each other: neither other rows nor the rest of a draft change a row's logits.

B: rows, n: width of a draft, V: size of the vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from orthrus.batch.scheduler import Scheduler
from orthrus.interfaces import Target
from orthrus.reference.cache import PlainCache
from orthrus.testing.check import Factory, check
from orthrus.testing.checks.target_passes import hold_close, spread_over, tokens_of
from orthrus.testing.scenes import Scene
from orthrus.values import Draft, Verdict

DRAFTED = 3  # tokens
ROWS = Scene(seed=6, prompts=((1,), (3, 3, 3, 3, 2, 0, 3, 3), (0, 1, 2)), max_new_tokens=DRAFTED + 3)


@check("target", [ROWS])
def rows_do_not_see_each_other(make: Factory, scene: Scene) -> None:
    """A row's logits are those that it has alone, with its draft and without: other rows of a pass do not change it."""
    target: Target = make(PlainCache())
    scene = spread_over(scene, target)
    every = list(range(len(scene.prompts)))
    together = _scored(target, scene, every, DRAFTED)
    for row in every:
        for width in (DRAFTED, 0):
            alone = _scored(target, scene, [row], width)[0]
            for place in range(width + 1):
                where = f"row {row}, place {place}, alone with {width} drafts and among {len(every)} rows"
                hold_close(target, together[row, place], alone[place], where)


def _scored(target: Target, scene: Scene, rows: Sequence[int], width: int) -> Tensor:
    """Return the logits [B, width + 1, V] of drafts behind the prompts of some rows, with anchors of their own."""
    chosen = Scene(seed=scene.seed, prompts=tuple(scene.prompts[row] for row in rows), max_new_tokens=DRAFTED + 3)
    context = chosen.context(target)
    target.start(context)
    scheduler = Scheduler(context)
    target.prefill(context, scheduler.refill())
    anchors = _tokens(target, [[row + 1] for row in rows])[:, 0]  # [B]
    nothing = torch.zeros(len(rows), dtype=torch.int64, device=target.device)
    target.keep(scheduler.commit(context.empty_draft(), Verdict(nothing, anchors)))
    drafted = _tokens(target, [[row + column for column in range(width)] for row in rows])  # [B, width]
    return target.score(context, Draft(drafted, nothing + width))


def _tokens(target: Target, numbers: Sequence[Sequence[int]]) -> Tensor:
    rows = [tokens_of(row, target.vocabulary_size) for row in numbers]
    return torch.tensor(rows, dtype=torch.int64, device=target.device).reshape(len(rows), -1)
