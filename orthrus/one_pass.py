"""One pass a cycle: while a draft is scored, a view drafts what follows each length of it that may be accepted.

A draft of n tokens may be accepted up to any of n + 1 lengths. For each there is a block: the last token that would be
kept, and masks behind it. All blocks and the draft are one pass. The draft's columns see what they see without the
blocks; a block's see the model's keys before its first token, and the block itself. Once the verdict is known, the next
draft is taken from the block that fits. B: rows, n: tokens of the scored draft, K: columns of a block, C: columns of
all blocks, (n + 1) K, V: size of the vocabulary, h: hidden size.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from orthrus.draft_memory import PassSize, ShortMemory, is_short
from orthrus.errors import BuildError, InputError
from orthrus.interfaces import Drafter, Target
from orthrus.optional import name_of

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from orthrus.batch.context import Context
    from orthrus.values import Draft


@dataclass(frozen=True)
class AcceptableBlocks:
    """Blocks beside a scored draft of so many tokens, one for each length that may be accepted, through a view.

    Place 0 of the block of length k is token k of the anchor and the draft, at its position; masks follow. What the
    view says at place 0 is a guess of the target's own token behind it, which the verdict brings; places 1 to K - 2
    draft what comes after that, and the last place is not used, as in a block that is drafted alone.

    Columns are in the order of places: place 0 of all blocks, then place 1 of all, and so on, so that those that draft
    lie side by side. Equal ones share recordings. states: whether the hidden states of the drafts are wanted, too.
    """

    view: str
    mask_token_id: int
    drafts: int
    size: int
    states: bool = False

    @property
    def count(self) -> int:
        """The number of blocks, n + 1."""
        return self.drafts + 1

    @property
    def columns(self) -> int:
        """C, the columns of all blocks."""
        return self.count * self.size

    @property
    def drafted(self) -> int:
        """The tokens that each block drafts, K - 2."""
        return self.size - 2

    @property
    def projected(self) -> slice:
        """The columns that draft."""
        return slice(self.count, self.columns - self.count)

    def lengths(self, device: torch.device) -> Tensor:
        """Return [C]: of each column's block, how many drafts are accepted where it is used."""
        return _layout(self.count, self.size, device)[0]

    def places(self, device: torch.device) -> Tensor:
        """Return [C]: the place of each column in its block."""
        return _layout(self.count, self.size, device)[1]

    def depths(self, device: torch.device) -> Tensor:
        """Return [C]: how far behind the anchor each column stands in the text."""
        return _layout(self.count, self.size, device)[2]

    def seen(self, device: torch.device) -> Tensor:
        """Return [C, n + 1 + C]: which columns of the scored draft, and of the blocks, each column of these sees."""
        return _layout(self.count, self.size, device)[3]

    def projected_with_draft(self, device: torch.device) -> Tensor:
        """Return the columns that are projected of a pass over the draft and, behind it, the blocks."""
        return _projected(self.count, self.columns, device)

    def tokens(self, scored: Tensor) -> Tensor:
        """Return the tokens [B, C] of the blocks, given the anchor and the draft [B, n + 1]."""
        import torch

        masks = torch.full_like(scored[:, :1], self.mask_token_id).expand(-1, self.columns - self.count)
        return torch.cat([scored, masks], dim=1)

    def by_length(self, columns: Tensor) -> Tensor:
        """Return numbers of the columns that draft [B, (n + 1) (K - 2), ...] as [B, n + 1, K - 2, ...]."""
        by_depth = columns.reshape(len(columns), self.drafted, self.count, *columns.shape[2:])
        return by_depth.transpose(1, 2)


@cache  # not given up: recordings read them
def _layout(count: int, size: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return accepted lengths, places, depths [C], and what is seen [C, count + C]."""
    import torch

    columns = torch.arange(count * size, device=device)
    lengths, places = columns % count, columns // count
    before = torch.arange(count, device=device) < lengths[:, None]  # the model's own keys, strictly before place 0
    own = lengths[:, None] == lengths
    return lengths, places, lengths + places, torch.cat([before, own], dim=1)


@cache
def _projected(count: int, columns: int, device: torch.device) -> Tensor:
    import torch

    drafting = torch.arange(2 * count, columns, device=device)  # without first places, and last ones
    return torch.cat([torch.arange(count, device=device), drafting])


@dataclass(frozen=True, eq=False)
class BlockPredictions:
    """What a view says in blocks beside a scored draft: logits [B, n + 1, K - 2, V] and perhaps states [.., h].

    They may be written over by the target's next pass.
    """

    logits: Tensor
    states: Tensor | None = None

    def of(self, accepted: Tensor) -> BlockPredictions:
        """Return the predictions [B, K - 2, ...] of each row's block, given how many drafts were accepted [B]."""

        def chosen(of_blocks: Tensor) -> Tensor:
            index = accepted.view(-1, *[1] * (of_blocks.dim() - 1)).expand(-1, 1, *of_blocks.shape[2:])
            return of_blocks.gather(1, index)[:, 0]

        return BlockPredictions(chosen(self.logits), None if self.states is None else chosen(self.states))


@runtime_checkable
class DraftsWhileScoring(Protocol):
    """A drafter whose next draft is made in the pass that scores this one."""

    def blocks_beside(self, context: Context, draft: Draft) -> AcceptableBlocks | None:
        """Return the blocks that are to run beside a chain's draft; None: none, as no draft will follow.

        They may not be run, where memory is short: then nothing is to be taken of them, and the view drafts apart.
        """

    def take_predictions(self, context: Context, predictions: BlockPredictions) -> None:
        """Take what the blocks said; how many drafts were accepted is on the device once the step is committed."""


@dataclass(frozen=True, eq=False)
class Attending:
    """What one kind of columns attends with: queries [1, H, n, D] over keys and values [1, H_kv, slots, D].

    prepared: what the backend made of the kind's mask for the layer.
    """

    query: Tensor
    key: Tensor
    value: Tensor
    prepared: Any


@runtime_checkable
class AttendsBeside(Protocol):
    """An attention backend that attends for a scored draft and the blocks beside it at once, so in fewer kernels."""

    def attend_beside(self, draft: Attending, blocks: Attending, *, scale: float) -> tuple[Tensor, Tensor] | None:
        """Return [1, H, n, D] of the draft, to the bit what `attend` returns, and of the blocks; None: attend for each.

        The keys and values of both are written before.
        """


@dataclass(frozen=True)
class OnePassObstacle:
    """What keeps a target from running blocks beside a scored draft: a part of it, why, and what to set instead.

    kind: `attention`, `cache`, `engine` or `target`. part: what messages call it, unless a config has a name for it.
    """

    kind: str
    part: str
    reason: str  # "has no masks of blocks beside a draft"
    remedy: str  # "set attention.name=sdpa"


@dataclass(frozen=True)
class OnePassCycle:
    """A one-pass cycle in parts, for those who measure what it costs beside one of two passes.

    name: of what drafts, in notices and in the file of what was measured. drafts: tokens of a draft, n. score: passes
    over a draft and the blocks beside it, and returns the draft's logits [B, n + 1, V]. follow: makes of a block what
    would be drafted next, while the host waits.
    """

    name: str
    drafts: int
    score: Callable[[Context, Draft], Tensor]
    follow: Callable[[Context], object]


@runtime_checkable
class JoinsBlocks(Protocol):
    """A target that tells where blocks and the draft beside them are one pass: what is not attention is read once.

    Elsewhere it runs the blocks in a pass of their own, so that a cycle takes about as long as two passes do.
    """

    def joins_blocks(self, rows: int, blocks: AcceptableBlocks) -> bool:
        """Tell whether that is so for a batch of so many rows and these blocks."""


@runtime_checkable
class ScoresWithBlocks(Protocol):
    """A target that scores a draft and runs a view's blocks beside it in one pass, unless a part of it cannot."""

    def one_pass_obstacle(self) -> OnePassObstacle | None:
        """Return what keeps it from that; None: nothing does."""

    def score_with_blocks(
        self, context: Context, draft: Draft, blocks: AcceptableBlocks
    ) -> tuple[Tensor, BlockPredictions]:
        """Return what `score` returns, to the bit, and what the blocks say; these write scratch slots only."""


def check_one_pass(target: Target, drafter: Drafter, names: Mapping[str, str] | None = None) -> None:
    """Raise BuildError if a drafter drafts in the scoring pass and the target cannot; names: of parts, by kind."""
    if not isinstance(drafter, DraftsWhileScoring):
        return
    known = dict(names or {})
    drafting = f"drafter '{known.get('drafter', name_of(drafter))}' drafts in the pass that scores (cycle: one_pass)"
    if not isinstance(target, ScoresWithBlocks):
        name = known.get("target", name_of(target))
        raise BuildError(f"{drafting}, and target '{name}' runs no blocks beside a draft; set drafter.cycle=two_passes")
    if obstacle := target.one_pass_obstacle():
        name = known.get(obstacle.kind, obstacle.part)
        raise BuildError(
            f"{drafting}, and {obstacle.kind} '{name}' {obstacle.reason}; {obstacle.remedy}, or"
            " drafter.cycle=two_passes"
        )


def scoring_of(target: Target, drafter: Drafter) -> Callable[[Context, Draft], Tensor]:
    """Return what scores a draft: `target.score`, or with what the drafter wants to run beside it.

    Where memory does not hold the blocks of a draft, it is scored without them, and so are drafts of as many tokens or
    more over texts as long or longer from then on: a pass that failed is not tried again in each cycle. Raises
    BuildError if the target cannot.
    """
    check_one_pass(target, drafter)
    if not isinstance(drafter, DraftsWhileScoring):
        return target.score
    return _ScoringBeside(target, drafter).score


class _ScoringBeside:
    """Scores drafts with a drafter's blocks beside them, as far as memory holds these."""

    def __init__(self, target: Target, drafter: DraftsWhileScoring) -> None:
        assert isinstance(target, ScoresWithBlocks), "it was asked"
        self._alone, self._with_blocks = target.score, target.score_with_blocks
        self._drafter = drafter
        self._short = ShortMemory()  # of drafted tokens of all rows, for whose blocks it was short

    def score(self, context: Context, draft: Draft) -> Tensor:
        """Return the logits [B, n + 1, V] of a draft, and hand the drafter what its blocks say."""
        blocks, size = self._drafter.blocks_beside(context, draft), PassSize.of(context, draft.tokens.numel())
        if blocks is None or not self._short.allows(size):
            return self._alone(context, draft)
        try:
            logits, predictions = self._with_blocks(context, draft, blocks)
        except (RuntimeError, InputError) as error:
            if not is_short(error):
                raise
            self._short.note(size)
        else:
            self._drafter.take_predictions(context, predictions)
            return logits
        return self._alone(context, draft)  # what the error's frames held is free by now
