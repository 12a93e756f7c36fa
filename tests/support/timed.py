"""Passes whose time is set by the test: a target that turns a clock, and a drafter of blocks that is always wrong."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from orthrus import AutoBlock, Chance, Context, Draft, Step
from orthrus.testing import TableTarget
from support.building import table_target


class TimedTarget(TableTarget):
    """Take as long for a pass as a function of its tokens a row says, on a clock of its own."""

    seconds: Callable[[int], float]
    time = 0.0
    widths: list[int]
    identity = "timed"

    def score(self, context: Context, draft: Draft) -> Tensor:
        self.widths.append(draft.tokens.shape[1])
        self.time += self.seconds(draft.tokens.shape[1] + 1)
        return super().score(context, draft)

    def clock(self) -> float:
        return self.time

    def pass_identity(self) -> dict[str, str]:
        return {"model": self.identity}


def timed_target(seconds: Callable[[int], float] = lambda tokens: 0.1 + tokens / 100, seed: int = 0) -> TimedTarget:
    target = table_target(seed)
    target.__class__ = TimedTarget
    assert isinstance(target, TimedTarget)
    target.seconds, target.widths = seconds, []
    return target


class WrongDrafter:
    """Draft what the target never says next, as much of it as is chosen, in a pass that costs what it is told."""

    needs: frozenset[str] = frozenset()
    learns = True

    def __init__(self, target: TimedTarget, seconds: Callable[[int], float] | None = None, most: int = 15) -> None:
        self.target, self._seconds = target, seconds
        drafting = ("wrong", self._draft) if seconds else None
        self.auto = AutoBlock(target, most, drafting=drafting, clock=target.clock)

    def start(self, context: Context, rows: Sequence[int]) -> None:
        self.auto.start(rows)

    def propose(self, context: Context, chance: Chance) -> Draft:
        size = self.auto.choose(context)
        return self._draft(context, size) if size else context.empty_draft()

    def _draft(self, context: Context, size: int) -> Draft:
        if self._seconds:
            self.target.time += self._seconds(size + 1)
        wrong = [
            (self.target.logits([*row.prompt, *row.output], 1)[0].argmax().item() + 1) % self.target.vocabulary_size
            for row in context.rows
        ]
        return Draft(torch.tensor(wrong)[:, None].repeat(1, size), context.room.clamp(max=size))

    def observe(self, step: Step) -> None:
        self.auto.observe(step)
