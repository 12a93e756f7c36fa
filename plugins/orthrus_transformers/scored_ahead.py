"""Passes without drafts of a target that are launched ahead, before the host has read what they follow."""

from __future__ import annotations

import torch
from torch import Tensor

from orthrus import Context, Draft, KVCache, Turn
from orthrus.optional import LendsBuffers, StaticKVCache
from orthrus.ranks.group import RankGroup
from orthrus_transformers.engines.engine import Engine
from orthrus_transformers.engines.forward_pass import ForwardPass
from orthrus_transformers.guards import in_its_turn, on_its_device, says_when_memory_is_short
from orthrus_transformers.model.taps import Taps
from orthrus_transformers.recurrent.recurrent_states import RecurrentStates


class PlainAhead:
    """A target that keeps what a pass scored that was launched ahead until another pass is run."""

    turn: Turn
    device: torch.device
    group: RankGroup | None
    recurrent: RecurrentStates | None
    _engine: Engine
    _taps: Taps
    _early: Tensor | None = None  # logits [B, 1, V], or choices [B, 1]
    # The rows' lengths and anchors that the pass began with, and whether it scored choices.
    _early_of: tuple[Tensor, Tensor, bool] | None = None

    def _launches_ahead(self, cache: KVCache) -> bool:
        """Tell whether passes are launched ahead: where the host would make a GPU wait, and nothing is taken back.

        The pass writes its anchors' keys before `keep` is told of the anchors, so a cache must hold on to them; blocks
        behind what is kept are given back.
        """
        alone = self.group is None and self.recurrent is None
        holds_on = isinstance(cache, StaticKVCache) and isinstance(cache, LendsBuffers)
        return alone and holds_on and self.device.type == "cuda"

    def _run(self, forward_pass: ForwardPass) -> Tensor:
        """Run a pass; it may write over what was launched ahead, which is forgotten."""
        self._early = self._early_of = None
        return self._engine.run(forward_pass)

    @torch.no_grad()
    @in_its_turn
    @on_its_device
    @says_when_memory_is_short
    def score_ahead(self, context: Context, choices: bool = False) -> None:
        """Launch the pass whose logits the next `score` of the empty draft returns, if no other pass comes before.

        choices: those that the next `score_choices` of it returns.
        """
        self.turn.check(context)
        if self._taps.buffer is not None:  # its states are handed over with what the host knows
            return
        anchors_alone = ForwardPass(
            token_ids=context.anchors[:, None],
            lengths=context.lengths - 1,
            extent=context.longest,
            last=1,
            scored=True,
            choices=choices,
        )
        self._early, self._early_of = self._run(anchors_alone), (context.lengths, context.anchors, choices)

    def _take_early(self, context: Context, draft: Draft, choices: bool) -> Tensor | None:
        """Return the logits or choices that were launched ahead, once, if they are this draft's; None: they are not.

        Lengths and anchors are new tensors whenever anything was committed or uploaded since.
        """
        early, of = self._early, self._early_of
        self._early = self._early_of = None
        self.turn.check(context)
        if of is None or draft is not context.empty_draft():
            return None
        begun = of[0] is context.lengths and of[1] is context.anchors
        return early if begun and of[2] == choices else None
