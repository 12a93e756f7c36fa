"""Decoding of one text by several ranks: the lead decides what is drafted and committed, and all do the same."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Protocol, TypeVar, runtime_checkable

import torch

from orthrus.errors import GroupError
from orthrus.interfaces import Target
from orthrus.ranks.ending import Ending
from orthrus.ranks.group import RankGroup
from orthrus.ranks.launch import launched
from orthrus.values import Draft, Verdict

T = TypeVar("T")


@runtime_checkable
class SharedTarget(Protocol):
    """A target whose model several processes hold a part of each, and run together."""

    group: RankGroup | None  # None: this process has it alone


class Alone:
    """One process, which agrees with itself."""

    leads = True
    several = False  # processes

    def step(self) -> AbstractContextManager[None]:
        """Return what a step is done within."""
        return nullcontext()

    def draft(self, draft: Draft) -> Draft:
        """Return the draft."""
        return draft

    def verdict(self, verdict: Verdict) -> Verdict:
        """Return the verdict."""
        return verdict

    def agree(self, value: T) -> T:
        """Return the value."""
        return value

    def numbers(self, *values: float) -> list[float]:
        """Return the numbers."""
        return list(values)

    def made_by_lead(self, make: Callable[[], T]) -> T:
        """Return what is made."""
        return make()

    def messages(self, take: Callable[[], list[T]]) -> list[T]:
        """Return what is taken."""
        return take()

    def clock(self, clock: Callable[[], float]) -> Callable[[], float]:
        """Return the clock."""
        return clock


class Together(Alone):
    """A rank among several; what it is told by the lead takes the place of its own."""

    def __init__(self, group: RankGroup) -> None:
        self._group = group
        self.leads, self.several = group.leads, True

    def step(self) -> AbstractContextManager[None]:
        """Return what a step is done within; the others' watch ends all if it hangs."""
        return self._group.activity.step()

    def draft(self, draft: Draft) -> Draft:
        """Return the lead's draft.

        Raises GroupError where this rank drafted in another width: then its passes would not be those of the lead.
        """
        width, branched = draft.tokens.shape[1], draft.parents is not None
        wanted, tree = self._group.agree_numbers(width, branched)
        if (wanted, tree) != (width, branched):
            raise GroupError(
                f"rank {self._group.rank} drafted {_shape(width, branched)} where rank 0 drafted"
                f" {_shape(int(wanted), bool(tree))}: this drafter does not draft the same in every process and cannot"
                " be used with target.parallel; take another one"
            )
        if not width:
            return draft
        columns = [draft.tokens, *([] if draft.parents is None else [draft.parents]), draft.lengths[:, None]]
        sizes = [column.shape[1] for column in columns]
        tokens, *parents, lengths = torch.split(self._group.from_lead(torch.cat(columns, dim=1)), sizes, dim=1)
        return replace(
            draft,
            tokens=tokens.contiguous(),
            parents=parents[0].contiguous() if parents else None,
            lengths=lengths[:, 0].contiguous(),
            host_lengths=None,
        )

    def verdict(self, verdict: Verdict) -> Verdict:
        """Return the lead's verdict."""
        last = [] if verdict.last is None else [verdict.last]
        decided = self._group.from_lead(torch.stack([verdict.accepted, verdict.next_tokens, *last]))  # [2 or 3, B]
        return Verdict(*decided)

    def agree(self, value: T) -> T:
        """Return the lead's value."""
        return self._group.agree(value)

    def numbers(self, *values: float) -> list[float]:
        """Return the lead's numbers, as many on every rank: quicker than `agree`."""
        return self._group.agree_numbers(*values)

    def made_by_lead(self, make: Callable[[], T]) -> T:
        """Return what the lead makes."""
        return self._group.made_by_lead(make)

    def messages(self, take: Callable[[], list[T]]) -> list[T]:
        """Return what the lead takes, which is nothing most of the time."""
        taken = take() if self.leads else []
        (count,) = self._group.agree_numbers(len(taken))
        return self._group.agree(taken) if count else []

    def clock(self, clock: Callable[[], float]) -> Callable[[], float]:
        """Return the lead's clock: what is chosen by it is chosen by all."""
        return lambda: self._group.agree_numbers(clock())[0]


def together_of(target: Target) -> Alone:
    """Return how this process agrees with those that hold the target's model with it; by itself if there are none."""
    group = target.group if isinstance(target, SharedTarget) else None
    return Alone() if group is None else Together(group)


def check_shared(target: Target) -> None:
    """Raise GroupError if several processes run a command on a target that each of them holds whole."""
    launch = launched()
    if launch is not None and not (isinstance(target, SharedTarget) and target.group is not None):
        raise GroupError(
            f"torchrun started {launch.count} processes, and each would decode all prompts by itself; set"
            f" target.parallel={launch.count}, or start one process"
        )


def end_all(sentence: str) -> None:
    """Say a sentence and end all processes of this launch, if there are several; else do nothing."""
    launch = launched()
    if launch is not None:
        Ending(launch).fail(sentence)


def _shape(width: int, branched: bool) -> str:
    return f"a tree of {width} tokens" if branched else f"{width} tokens"
