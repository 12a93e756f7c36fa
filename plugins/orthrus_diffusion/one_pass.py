"""The drafter `diffusion` with one pass a cycle: the next draft is made in the pass that scores this one.

B: rows, n: tokens of a draft, K: columns of a block, V: size of the vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from orthrus import Chance, Context, Draft, InputError
from orthrus.draft_memory import is_short
from orthrus.kernels.argmax import argmax
from orthrus.one_pass import AcceptableBlocks, BlockPredictions, OnePassCycle, ScoresWithBlocks
from orthrus.optional import BoundsSlots, ViewTarget
from orthrus.sampling import draw_draft
from orthrus_diffusion.chain import FOLLOWED, draw_chain, greedy_chain
from orthrus_diffusion.drafter import Diffusion
from orthrus_diffusion.following_tree import chosen_by_kernels
from orthrus_diffusion.successor import SuccessorHead
from orthrus_diffusion.tree import likeliest_of

DRAFTS = 5  # of a cycle where nothing else is said: 48 columns with the blocks beside them


@dataclass(frozen=True, eq=False)
class Scored:
    """What blocks said beside a draft: predictions, of rows that had lengths [B] tokens, in a context's cycle."""

    context: Context
    lengths: Tensor
    drafts: int
    predictions: BlockPredictions


class OnePassDiffusion(Diffusion):
    """Run a block for every length that may be accepted beside the scored draft; one of them makes the next draft.

    A block's first place guesses the target's own token after what was accepted. By the time that the draft is taken
    this token is known, so the guess is not asked for: a successor head is told the true token, and without one the
    places behind it stay drafts as they are. Where rows were filled or moved since, the view drafts in a pass apart.
    """

    def __init__(
        self,
        target: ViewTarget,
        block: int,
        mask_token_id: int,
        view: str,
        *,
        successor: SuccessorHead | None = None,
    ) -> None:
        """Draft block - 1 tokens a cycle, from blocks of a token more: the first place drafts nothing, and the last."""
        super().__init__(target, block, mask_token_id, view, early=False, successor=successor)
        self._blocks: tuple[Context, Tensor, int] | None = None  # that run beside this cycle's draft
        self._scored: Scored | None = None

    def start(self, context: Context, rows: Sequence[int]) -> None:
        """Forget what blocks said: these rows have none."""
        super().start(context, rows)
        self._scored = None

    def move_rows(self, sources: Sequence[int]) -> None:
        """Forget what blocks said, of the rows as they were."""
        super().move_rows(sources)
        self._scored = None

    def blocks_beside(self, context: Context, draft: Draft) -> AcceptableBlocks | None:
        """Return the blocks for each length of a draft [B, n]; None where no draft follows, or slots do not suffice."""
        self._scored = None
        width = draft.tokens.shape[1]
        if not self.fits(context, width) or context.max_room < 2:  # this cycle commits one at least
            return None
        self._blocks = context, context.lengths, width
        return self.blocks_of(width)

    def blocks_of(self, drafts: int) -> AcceptableBlocks:
        """Return the blocks beside a draft of so many tokens."""
        states = self._successors is not None
        return AcceptableBlocks(self.view, self.mask_token_id, drafts, self.block + 1, states=states)

    def fits(self, context: Context, drafts: int) -> bool:
        """Tell whether rows may have slots enough for a draft of so many tokens and the blocks beside it."""
        most = self._target.max_slots if isinstance(self._target, BoundsSlots) else None
        return most is None or context.longest + drafts + self.blocks_of(drafts).columns <= most

    def leave_out(self) -> None:
        """Run no blocks in this cycle, and forget what those of an earlier one said."""
        self._scored = None

    @property
    def measured_cycle(self) -> OnePassCycle:
        """A cycle in parts, for those who measure; what the blocks say is followed as if no draft was accepted."""
        return OnePassCycle(self.described, self.block - 1, self._measured_score, self._measured_follow)

    def _measured_score(self, context: Context, draft: Draft) -> Tensor:
        assert isinstance(self._target, ScoresWithBlocks), "it was asked"
        width = draft.tokens.shape[1]
        logits, predictions = self._target.score_with_blocks(context, draft, self.blocks_of(width))
        self._scored = Scored(context, context.lengths, width, predictions)
        return logits

    def _measured_follow(self, context: Context) -> object:
        scored, self._scored = self._scored, None
        assert scored is not None, "it was scored"
        return self._following(scored, context, Chance(0, context.device))

    def take_predictions(self, context: Context, predictions: BlockPredictions) -> None:
        """Keep what the blocks said until it is known which one fits."""
        assert self._blocks is not None, "they were asked for"
        (asked, lengths, width), self._blocks = self._blocks, None
        assert asked is context, "a draft is scored in the context that it is of"
        self._scored = Scored(context, lengths, width, predictions)

    def ahead(self, context: Context, chance: Chance) -> bool:
        """Take the next draft from the block that fits, while the host waits; the next pass writes over the others.

        Return whether there is one: where memory is short there is none, and the view drafts in a pass apart.
        """
        scored, self._scored = self._scored, None
        if scored is None or scored.context is not context:
            return False
        try:
            draft = self._following(scored, context, chance)
        except (RuntimeError, InputError) as error:
            if not is_short(error):
                raise
            return False
        self._launch(context, draft)
        return True

    def _following(self, scored: Scored, context: Context, chance: Chance) -> Draft:
        """Return the draft [B, n] of the block of each row's accepted length; of rows that ended it is not read."""
        width = min(self.block - 1, context.max_room)
        if width < 1:
            return context.empty_draft()
        accepted = (context.lengths - scored.lengths - 1).clamp(0, scored.drafts)
        fitting = scored.predictions.of(accepted)
        logits, lengths = fitting.logits[:, :width], context.room.clamp(max=width)
        if fitting.states is not None:
            states = fitting.states[:, :width].contiguous()  # kernels read them as they lie
            return self._corrected(logits.contiguous(), states, lengths, context, chance)
        if context.settings.draws:
            return draw_draft(context, chance, logits, lengths, passes=0)
        return Draft(argmax(logits), lengths)

    def _corrected(self, logits: Tensor, states: Tensor, lengths: Tensor, context: Context, chance: Chance) -> Draft:
        """Return the draft of logits [B, n, V] and states [B, n, h], whose first token follows the new anchor."""
        assert self._successors is not None, "states are asked for where there is a head"
        values, tokens, normalizers = likeliest_of(logits, min(FOLLOWED, logits.shape[-1]))  # [B, n, k]
        if not context.settings.draws:
            parts = self._successors.parts(context.anchors, tokens, states)
            if parts is not None:
                return Draft(chosen_by_kernels(tokens, values, normalizers, parts, context.room, 0), lengths)
        transitions = self._successors.transitions(context.anchors, tokens, states)
        if context.settings.draws:
            return replace(draw_chain(context, chance, logits, transitions, lengths), passes=0)
        return Draft(greedy_chain(tokens, values, transitions), lengths)
