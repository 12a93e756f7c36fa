"""One forward pass: tokens, positions and the rows that it is over. B: rows, n: tokens of a row, T: slots."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from orthrus import Context, Draft, DraftPass, RowState
from orthrus.draft_states import ReadsDraftStates
from orthrus.one_pass import AcceptableBlocks
from orthrus.paths import Paths
from orthrus_transformers.model.taps import TapBuffer
from orthrus_transformers.model.views import View


@dataclass(frozen=True, eq=False)
class BlocksBeside:
    """Blocks that run beside a scored draft, through a view. taps: takes their hidden states, if anybody reads them."""

    blocks: AcceptableBlocks
    view: View
    taps: TapBuffer | None = None


@dataclass(frozen=True, eq=False)
class ForwardPass:
    """One pass over R rows of n tokens, before which lengths [R] are committed.

    token_ids [R, n], or as many as there are before `drafted`: they are joined where they are needed in one piece. Of a
    pass with `draft_pass` only the anchors [R, 1] are given, and lengths count them.
    """

    token_ids: Tensor
    lengths: Tensor
    extent: int  # the highest slot of all, plus 1
    last: int  # how many of the n columns, counted from the last but `unused`, are projected onto the vocabulary
    slots: Tensor | None = None  # [R, n], of a prefill; None: those that follow the committed ones
    rows: Tensor | None = None  # [R]; None: all rows of the cache
    first_row: int | None = None  # of `rows` that are one after the other; None: they may lie apart
    kind: Literal["causal", "block", "tree", "blocks"] = "causal"
    view: View | None = None  # None: the model's own attention
    positions: Tensor | None = None  # [R, n]; None: the slots. A row's spare columns come first, at its anchor's
    drafted: Tensor | None = None  # [R, m]: the last m of the n tokens; None: token_ids holds them all
    unused: int = 0  # last columns that are not projected
    draft_pass: DraftPass | None = None  # makes the tokens of the anchors, and something of the logits
    room: Tensor | None = None  # [R], if there is a `draft_pass`
    taps: TapBuffer | None = None  # takes the hidden states of all n columns
    tree: Paths | None = None  # of the columns, whose slots follow one another; their depths are their positions
    beside: BlocksBeside | None = None  # of a scored draft: the extent counts their slots, n does not
    blocks: AcceptableBlocks | None = None  # of the kind `blocks`: the columns are these, behind a scored draft's
    begins: bool = False  # whether the rows, whose prompts it is over, hold nothing before it
    scored: bool = False  # whether tokens of it may be kept
    choices: bool = False  # whether the argmax of the logits is wanted instead of them

    @property
    def parts(self) -> list[Tensor]:
        """The tokens as they were given, side by side."""
        return [self.token_ids] if self.drafted is None else [self.token_ids, self.drafted]

    @property
    def width(self) -> int:
        """n, the tokens of a row."""
        return self.draft_pass.width if self.draft_pass else sum(part.shape[1] for part in self.parts)

    @property
    def columns(self) -> int:
        """The tokens of a row and those of blocks beside them."""
        return self.width + (0 if self.beside is None else self.beside.blocks.columns)

    def joined(self) -> Tensor:
        """Return all tokens [R, n]."""
        return self.token_ids if self.drafted is None else torch.cat(self.parts, dim=1)

    def placed(self) -> Tensor:
        """Return the slot of each token [R, n]."""
        if self.slots is not None:
            return self.slots
        columns = torch.arange(self.width, device=self.lengths.device)
        if self.blocks is not None:
            return self.lengths[:, None] + self.blocks.count + columns
        if self.positions is None:
            return self.lengths[:, None] + columns
        # Spare columns, which come first, go to the slots behind the others': slots are distinct in a row.
        last = self.positions[:, -1:] - self.lengths[:, None]  # [R, 1]
        return self.lengths[:, None] + (columns + last + 1) % len(columns)

    def placed_at(self, slots: Tensor) -> Tensor:
        """Return the position of each token [R, n], whose slots are given."""
        if self.blocks is not None:
            return self.lengths[:, None] + self.blocks.depths(slots.device)
        if self.tree is not None:
            return self.lengths[:, None] + self.tree.depths
        return slots if self.positions is None else self.positions

    def seen(self) -> Tensor | None:
        """Return which columns each sees [R, n, m], of a tree, or of blocks and the draft before them; else None."""
        if self.blocks is not None:
            return self.blocks.seen(self.lengths.device).expand(len(self.lengths), -1, -1)
        return None if self.tree is None else self.tree.seen

    def apart(self) -> tuple[ForwardPass, ForwardPass]:
        """Return the pass over the scored draft as if there were no blocks beside it, and the one over the blocks."""
        assert self.beside is not None, "there are blocks"
        blocks, tokens = self.beside.blocks, self.joined()
        scored = replace(self, token_ids=tokens, drafted=None, extent=self.extent - blocks.columns, beside=None)
        beside = ForwardPass(
            token_ids=blocks.tokens(tokens),
            lengths=self.lengths,
            extent=self.extent,
            last=blocks.count * blocks.drafted,
            kind="blocks",
            view=self.beside.view,
            unused=blocks.count,  # the last places
            taps=self.beside.taps,
            blocks=blocks,
        )
        return scored, beside

    @property
    def projected_columns(self) -> slice:
        """The columns that are projected; told a number instead, layers that share keys would leave the others out."""
        return slice(self.width - self.unused - self.last, self.width - self.unused)

    @property
    def state(self) -> RowState:
        """The rows' state, of which a `draft_pass` makes its tokens."""
        assert self.room is not None, "a pass with something around it is told the rows' room"
        return RowState(self.lengths, self.token_ids[:, 0], self.room)

    def without_draft_pass(self) -> ForwardPass:
        """Return the forward pass over the tokens that the draft pass makes."""
        draft_pass = self.draft_pass
        assert draft_pass is not None, "there is a draft pass to leave out"
        return replace(
            self,
            token_ids=draft_pass.tokens(self.state),
            lengths=self.lengths - 1,
            positions=draft_pass.positions(self.state) if draft_pass.spare else None,
            draft_pass=None,
            room=None,
        )

    def drafted_of(self, logits: Tensor) -> Tensor:
        """Return what the draft pass makes of its logits, and of hidden states where it reads them."""
        draft_pass = self.draft_pass
        assert draft_pass is not None, "there is a draft pass"
        if not isinstance(draft_pass, ReadsDraftStates):
            return draft_pass.result(self.state, logits)
        assert self.taps is not None, "states are tapped for a pass that reads them"
        return draft_pass.result_of_states(self.state, logits, self.taps.part(0)[:, self.projected_columns])


def scoring_pass(
    context: Context,
    lengths: Tensor,
    draft: Draft,
    taps: TapBuffer | None,
    choices: bool = False,
    beside: BlocksBeside | None = None,
) -> ForwardPass:
    """Return the pass over each row's anchor and draft, of which everything is projected; lengths [B]: of the cache.

    beside: blocks of a view, whose logits come behind the draft's.
    """
    width = 1 + draft.tokens.shape[1]
    beyond = 0 if beside is None else beside.blocks.columns
    return ForwardPass(
        token_ids=context.anchors[:, None],
        lengths=lengths,
        extent=context.longest - 1 + width + beyond,
        last=width,
        kind="causal" if draft.paths is None else "tree",
        drafted=draft.tokens if draft.tokens.shape[1] else None,  # [B, n]
        taps=taps,
        tree=draft.paths,
        scored=True,
        choices=choices,
        beside=beside,
    )
