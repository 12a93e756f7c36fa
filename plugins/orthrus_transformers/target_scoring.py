"""The scoring of drafts by a target: chains, trees, and a view's blocks beside a draft. B: rows, n: width of a draft.

V: size of the vocabulary.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor

from orthrus import Context, Draft, KVCache
from orthrus.one_pass import AcceptableBlocks, BlockPredictions, OnePassObstacle
from orthrus.trees import MovesSlots, TreeObstacle
from orthrus_transformers.engines.forward_pass import BlocksBeside, scoring_pass
from orthrus_transformers.guards import in_its_turn, on_its_device, says_when_memory_is_short
from orthrus_transformers.model.compatibility import one_pass_obstacle, tree_obstacle
from orthrus_transformers.model.pass_state import PassState
from orthrus_transformers.model.taps import DraftStates
from orthrus_transformers.row_keys import RowKeys
from orthrus_transformers.scored_ahead import PlainAhead
from orthrus_transformers.target_views import TargetViews


class TargetScoring(TargetViews, PlainAhead):
    """The passes that score drafts, and what keeps a target from some of them."""

    _model: Any
    _cache: KVCache
    _state: PassState
    _draft_states: DraftStates
    _row_keys: RowKeys

    @torch.no_grad()
    @in_its_turn
    @on_its_device
    @says_when_memory_is_short
    def score(self, context: Context, draft: Draft) -> Tensor:
        """Pass over each row's anchor and draft; return the logits [B, n + 1, V] after each."""
        early = self._take_early(context, draft, choices=False)
        return self._scored(context, draft) if early is None else early

    @torch.no_grad()
    @in_its_turn
    @on_its_device
    @says_when_memory_is_short
    def score_choices(self, context: Context, draft: Draft) -> Tensor:
        """Pass over each row's anchor and draft; return the likeliest tokens [B, n + 1] after each."""
        early = self._take_early(context, draft, choices=True)
        return self._scored(context, draft, choices=True) if early is None else early

    def _scored(
        self, context: Context, draft: Draft, choices: bool = False, beside: BlocksBeside | None = None
    ) -> Tensor:
        self.turn.check(context)
        scored = scoring_pass(context, self._cache.lengths, draft, self._taps.buffer, choices, beside)
        output = self._run(scored)
        if self._taps.buffer is not None:
            self._row_keys.write_states(self._taps.buffer.states)
            self._taps.scored(self._cache.lengths)
        return output

    @torch.no_grad()
    @in_its_turn
    @on_its_device
    @says_when_memory_is_short
    def score_with_blocks(
        self, context: Context, draft: Draft, blocks: AcceptableBlocks
    ) -> tuple[Tensor, BlockPredictions]:
        """Pass over each row's anchor and draft, and over a view's blocks beside them; return what both say.

        Raises BuildError if there is no view of that name.
        """
        taps = self._draft_states.buffer if blocks.states else None
        every = self._scored(context, draft, beside=BlocksBeside(blocks, self._view(blocks.view), taps))  # [B, .., V]
        logits, predicted = every[:, : blocks.count], every[:, blocks.count :]
        states = None if taps is None else blocks.by_length(taps.part(0)[:, blocks.projected])
        return logits, BlockPredictions(blocks.by_length(predicted), states)

    def joins_blocks(self, rows: int, blocks: AcceptableBlocks) -> bool:
        """Tell whether a batch of so many rows is scored with these blocks in one walk through the layers.

        Raises BuildError if there is no view of their name.
        """
        joined = self._taps.buffer is None and self.one_pass_obstacle() is None  # taps are of the draft's rows alone
        return joined and self._engine.joins(rows, BlocksBeside(blocks, self._view(blocks.view)))

    def one_pass_obstacle(self) -> OnePassObstacle | None:
        """Return which part keeps it from running blocks beside a scored draft: its layers or its attention."""
        return one_pass_obstacle(self._model, self._state.backend, self.group is not None)

    def tree_obstacle(self) -> TreeObstacle | None:
        """Return which part of the target keeps it from scoring trees: its layers, its attention or its cache."""
        return tree_obstacle(self._state.backend, self._cache, self.recurrent is not None)

    @torch.no_grad()
    @in_its_turn
    @on_its_device
    def keep_path(self, context: Context, order: Tensor) -> None:
        """Move the keys of a tree's accepted path to where a chain's would be."""
        cast(MovesSlots, self._cache).move_slots(context.lengths, order)
