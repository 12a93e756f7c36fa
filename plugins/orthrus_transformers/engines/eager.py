"""The engine `eager`: calls the model's modules as they are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import torch
from torch import Tensor

from orthrus import KVCache, MaskDescription
from orthrus.choices import reduces
from orthrus.kernels.argmax import argmax
from orthrus.optional import PlacesAdjacentRows
from orthrus_transformers.engines.engine import Engine, EngineSetup, Obstacle
from orthrus_transformers.engines.forward_pass import BlocksBeside, ForwardPass
from orthrus_transformers.model.pass_state import Form, PassState
from orthrus_transformers.model.past_key_values import PastKeyValues
from orthrus_transformers.model.recurrent_cache import RecurrentPast
from orthrus_transformers.model.shards import shards_of
from orthrus_transformers.model.short_convolutions import CachedInputs, find_convolutions, mask_for
from orthrus_transformers.recurrent.layer_states import LayerStates, Purpose
from orthrus_transformers.recurrent.recurrent_states import RecurrentStates
from orthrus_transformers.transformers_api import cache_argument


class EagerEngine:
    """The engine that calls the model's modules. form: of its layers."""

    @staticmethod
    def obstacle(setup: EngineSetup) -> Obstacle | None:
        """Return None: any target can take it."""

    @classmethod
    def make(cls, setup: EngineSetup) -> Self:
        """Return the engine over the model as it came."""
        return cls(setup.model, setup.cache, setup.state, setup.max_length, recurrent=setup.recurrent)

    def __init__(
        self,
        model: Any,
        cache: KVCache,
        state: PassState,
        max_length: int | None,
        form: Form = "own",
        recurrent: RecurrentStates | None = None,
    ) -> None:
        """Call a model's modules; recurrent: the states of its recurrent layers, None: it has none."""
        self.form: Form = form
        self._model = model
        self._cache = cache
        self.recurrent = recurrent
        self.past = PastKeyValues(cache) if recurrent is None else RecurrentPast(cache)
        self._cache_argument = cache_argument(model)
        self._state = state
        self._max_length = max_length
        self._convolves = bool(find_convolutions(model))
        self._stand_in = torch.zeros(1, 1, 1, 1, dtype=torch.bool, device=model.device)  # for a mask

    @property
    def eager(self) -> Engine:
        """The engine itself."""
        return self

    def run(self, forward_pass: ForwardPass) -> Tensor:
        """Run the pass; columns whose slot lies beyond the model's context are scratch, and any position does.

        Blocks beside a scored draft are run after it, as products over more rows are rounded otherwise: the draft's
        logits have the bits that they have without blocks.
        """
        shards = shards_of(self._model)
        if (draft_pass := forward_pass.draft_pass) is not None:
            inner, rows = forward_pass.without_draft_pass(), forward_pass.state
            if shards is not None and reduces(draft_pass):
                return draft_pass.reduced(rows, shards.logits(self._logits(inner, in_parts=True)))
            return forward_pass.drafted_of(self._logits(inner))
        if forward_pass.beside is not None:
            return torch.cat([self._logits(part) for part in forward_pass.apart()], dim=1)
        if forward_pass.choices:
            return self._choices(forward_pass)
        return self._logits(forward_pass)

    def _choices(self, forward_pass: ForwardPass) -> Tensor:
        """Return the argmax [R, last] of the logits, of which a rank may hold a part."""
        shards = shards_of(self._model)
        if shards is None:
            return argmax(self._logits(forward_pass))
        return shards.logits(self._logits(forward_pass, in_parts=True)).argmax()

    def joins(self, rows: int, beside: BlocksBeside) -> bool:
        """Return False: blocks are run after the draft."""
        return False

    def _logits(self, forward_pass: ForwardPass, in_parts: bool = False) -> Tensor:
        """Return the logits [R, last, V]; in_parts: this rank's part of them."""
        slots = forward_pass.placed()
        extent = self._place(slots, forward_pass)
        positions, tree = forward_pass.placed_at(slots), forward_pass.tree
        mask = MaskDescription(forward_pass.kind, positions, forward_pass.lengths, extent, forward_pass.seen())
        token_ids = forward_pass.joined()
        rows, columns = token_ids.shape
        self.past.length = forward_pass.extent - columns
        if forward_pass.taps is not None:
            forward_pass.taps.hold(rows, columns)
        states = self._begin(forward_pass)
        with self._state.run(
            mask,
            form=self._form_of(forward_pass),
            view=forward_pass.view,
            inputs=CachedInputs(self._cache, positions, tree),
            prefill=forward_pass.slots is not None,
            taps=forward_pass.taps,
            layer_states=states,
            in_parts=in_parts,
        ):
            logits: Tensor = self._model(
                input_ids=token_ids,
                position_ids=self._within(positions, extent),
                attention_mask=mask_for(self._convolves, self._stand_in.expand(rows, 1, columns, extent)),
                use_cache=True,
                logits_to_keep=forward_pass.projected_columns,
                **{self._cache_argument: self.past},
            ).logits
        if states is not None:
            self._end(states, forward_pass)
        return logits

    def _begin(self, forward_pass: ForwardPass) -> LayerStates | None:
        """Return the states that layers find in the pass; None: the model has no recurrent layers."""
        if not isinstance(self.past, RecurrentPast):
            return None
        assert self.recurrent is not None, "a model with recurrent layers has states"
        rows, columns = forward_pass.rows, forward_pass.width
        self.past.states = self.recurrent.begin(rows, columns, _purpose(forward_pass), forward_pass.begins)
        if forward_pass.positions is not None:
            self.past.states.leave_out(forward_pass.positions)
        return self.past.states

    def _end(self, states: LayerStates, forward_pass: ForwardPass) -> None:
        assert self.recurrent is not None and isinstance(self.past, RecurrentPast), "states were begun with"
        self.recurrent.end(states, forward_pass.rows, forward_pass.lengths)
        self.past.states = None

    def _place(self, slots: Tensor, forward_pass: ForwardPass) -> int:
        """Tell the cache where the pass writes; return how many slots of each row it sees."""
        first, extent = forward_pass.first_row, forward_pass.extent
        if first is not None and isinstance(self._cache, PlacesAdjacentRows):
            return self._cache.place_adjacent(slots, extent, first)
        return self._cache.place(slots, extent, forward_pass.rows)

    def _form_of(self, forward_pass: ForwardPass) -> Form:
        """Return the form that layers take in one pass."""
        return self.form

    def _within(self, positions: Tensor, extent: int) -> Tensor:
        """Return positions that the model has; extent: of the slots that any replay of this pass may reach."""
        if self._max_length is None or extent <= self._max_length:
            return positions
        return positions.clamp(max=self._max_length - 1)

    def report(self) -> Mapping[str, Any]:
        """Return the form of the layers, and how recurrent ones take drafts."""
        return {"layers": self.form, **({} if self.recurrent is None else self.recurrent.report())}


def _purpose(forward_pass: ForwardPass) -> Purpose:
    """Return what becomes of the states that a pass leaves."""
    if forward_pass.slots is not None:
        return Purpose.PROMPT
    return Purpose.SCORED if forward_pass.scored else Purpose.SCRATCH
