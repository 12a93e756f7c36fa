"""The engine `eager`: calls the model's modules as they are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import torch
from torch import Tensor

from orthrus import KVCache, MaskDescription
from orthrus.optional import PlacesAdjacentRows, StaticKVCache
from orthrus_transformers.engines.engine import Engine, EngineSetup, Obstacle
from orthrus_transformers.engines.forward_pass import ForwardPass
from orthrus_transformers.model.pass_state import Form, PassState
from orthrus_transformers.model.short_convolutions import CachedInputs, find_convolutions, mask_for
from orthrus_transformers.transformers_api import cache_argument


class PastKeyValues:
    """The cache argument of a transformers model: a KVCache, and the one length that a model may ask for."""

    is_compileable = True

    def __init__(self, cache: KVCache) -> None:
        self.cache = cache
        self._static = cache if isinstance(cache, StaticKVCache) else None
        self.length = 0  # of the longest row, on the host

    def update(self, keys: Tensor, values: Tensor, layer: int, *args: Any, **more: Any) -> tuple[Tensor, Tensor]:
        """Write a layer's new keys and values and return all of them."""
        return self.cache.update(keys, values, layer)

    def reserve(self, layer: int, like: Tensor, heads: int, size: int) -> tuple[Tensor, Tensor, Tensor] | None:
        """Return a layer's buffers to be written by a kernel, as a static cache does; None: `update` must be used."""
        return None if self._static is None else self._static.reserve(layer, like, heads, size)

    def read(self, layer: int) -> tuple[Tensor, Tensor]:
        """Return all keys and values of a layer whose buffers were reserved."""
        assert self._static is not None, "only a static cache reserves buffers"
        return self._static.read(layer)

    def get_seq_length(self, layer: int = 0) -> int:
        """Return the slots before the pass; positions are given, so models ask without using it."""
        return self.length


class EagerEngine:
    """The engine that calls the model's modules. form: of its layers."""

    @staticmethod
    def obstacle(setup: EngineSetup) -> Obstacle | None:
        """Return None: any target can take it."""

    @classmethod
    def make(cls, setup: EngineSetup) -> Self:
        """Return the engine over the model as it came."""
        return cls(setup.model, setup.cache, setup.state, setup.max_length)

    def __init__(
        self, model: Any, cache: KVCache, state: PassState, max_length: int | None, form: Form = "own"
    ) -> None:
        self.form: Form = form
        self._model = model
        self._cache = cache
        self.past = PastKeyValues(cache)
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
        """Run the pass; columns whose slot lies beyond the model's context are scratch, and any position does."""
        if forward_pass.draft_pass is not None:
            return forward_pass.draft_pass.result(forward_pass.state, self.run(forward_pass.without_draft_pass()))
        slots = forward_pass.placed()
        extent = self._place(slots, forward_pass)
        positions, tree = forward_pass.placed_at(slots), forward_pass.tree
        seen = None if tree is None else tree.seen
        mask = MaskDescription(forward_pass.kind, positions, forward_pass.lengths, extent, seen)
        token_ids = forward_pass.joined()
        rows, columns = token_ids.shape
        self.past.length = forward_pass.extent - columns
        if forward_pass.taps is not None:
            forward_pass.taps.hold(rows, columns)
        with self._state.run(
            mask,
            form=self._form_of(forward_pass),
            view=forward_pass.view,
            inputs=CachedInputs(self._cache, positions, tree),
            prefill=forward_pass.slots is not None,
            taps=forward_pass.taps,
        ):
            logits: Tensor = self._model(
                input_ids=token_ids,
                position_ids=self._within(positions, extent),
                attention_mask=mask_for(self._convolves, self._stand_in.expand(rows, 1, columns, extent)),
                use_cache=True,
                logits_to_keep=forward_pass.projected_columns,
                **{self._cache_argument: self.past},
            ).logits
        return logits

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
        """Return the form of the layers."""
        return {"layers": self.form}
