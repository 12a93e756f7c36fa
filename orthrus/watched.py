"""Frozen values of the watch hooks: what watchers are told of a step, and of a request that has ended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orthrus.values import DraftedTree, FinishReason, Result


@dataclass(frozen=True)
class WatchedRow:
    """What a step did for one request.

    number: of the request; no other one of the decoder has it. id: what its caller calls it. position: of the first
    token that was committed, in prompt and answer. drafted: the tokens that were proposed, of a tree those of all
    branches, in the drafter's order. accepted: how many the target agreed with, the first ones or those of a path,
    before a stop cut them. committed: tokens, in a cycle the accepted ones and then the target's own. finish_reason:
    why the request ended in this step; None if it goes on. tree: of a tree, what each of `drafted` follows and which
    were kept; None: it was a chain.
    """

    number: int
    id: str
    position: int
    drafted: tuple[int, ...]
    accepted: int
    committed: tuple[int, ...]
    finish_reason: FinishReason | None = None
    tree: DraftedTree | None = None


@dataclass(frozen=True)
class StepSeconds:
    """The time that decoding took from one step to the next, and of it that of each part, in seconds.

    whole: of the host, without what the caller and watchers do between two steps. prefill: passes over prompts, also
    chunks of them beside a cycle. draft: proposing; a draft that is launched ahead is counted in the step that scores
    it. score: the pass over drafts. verify: deciding. On a CUDA device the parts are its own times, elsewhere the
    host's.
    """

    whole: float
    prefill: float = 0.0
    draft: float = 0.0
    score: float = 0.0
    verify: float = 0.0

    @property
    def other(self) -> float:
        """What is left: processing of logits, committing, the loop itself; never below 0."""
        return max(0.0, self.whole - self.prefill - self.draft - self.score - self.verify)


@dataclass(frozen=True)
class WatchedStep:
    """A step, once it is committed: a prefill, or a cycle. rows: of the requests that took part."""

    prefill: bool
    rows: tuple[WatchedRow, ...]
    seconds: StepSeconds


@dataclass(frozen=True)
class WatchedGeneration:
    """A request that has ended. number: that which its steps had. result: as its caller gets it."""

    number: int
    result: Result
