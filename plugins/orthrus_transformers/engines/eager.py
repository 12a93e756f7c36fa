"""How a pass runs. The engine `eager` calls the model's modules as they are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import Tensor

from orthrus import KVCache, MaskDescription
from orthrus_transformers.engines.forward_pass import ForwardPass
from orthrus_transformers.model.attention_hook import Form, PassState
from orthrus_transformers.model.short_convolutions import CachedInputs, find_convolutions, mask_for
from orthrus_transformers.transformers_api import cache_argument


class Engine(Protocol):
    """Run passes of one model over one cache."""

    def run(self, one: ForwardPass) -> Tensor:
        """Return the logits [R, last, V], or what `around` makes of them; leave keys and values in the cache."""

    def report(self) -> Mapping[str, Any]:
        """Return what the engine is and what it holds, for those who measure."""


class PastKeyValues:
    """Be what a transformers model calls its cache: a KVCache, and the one length it may ask for."""

    is_compileable = True

    def __init__(self, cache: KVCache) -> None:
        self.cache = cache
        self.length = 0  # of the longest row, on the host

    def update(self, keys: Tensor, values: Tensor, layer: int, *args: Any, **more: Any) -> tuple[Tensor, Tensor]:
        """Write a layer's new keys and values and return all of them."""
        return self.cache.update(keys, values, layer)

    def get_seq_length(self, layer: int = 0) -> int:
        """Return the slots before the pass; positions are given, so models ask without using it."""
        return self.length


class EagerEngine:
    """Call the model's modules; form: which form its layers take (compiled: in the narrow passes of a cycle)."""

    def __init__(
        self, model: Any, cache: KVCache, state: PassState, max_length: int | None, form: Form = "own"
    ) -> None:
        self.form = form
        self._model = model
        self._cache = cache
        self.past = PastKeyValues(cache)
        self._cache_argument = cache_argument(model)
        self._state = state
        self._max_length = max_length
        self._convolves = bool(find_convolutions(model))
        self._stand_in = torch.zeros(1, 1, 1, 1, dtype=torch.bool, device=model.device)  # for a mask

    def run(self, one: ForwardPass) -> Tensor:
        """Run the pass; columns whose slot lies beyond the model's context are scratch, and any position does."""
        if one.around is not None:
            return one.around.result(one.state, self.run(one.made(one.around)))
        slots = one.placed()
        extent = self._cache.place(slots, one.extent, one.rows)
        positions = slots if one.positions is None else one.positions
        self._state.begin(MaskDescription(one.kind, positions, one.lengths, extent))
        token_ids = one.joined()
        rows, columns = token_ids.shape
        self.past.length = one.extent - columns
        uncompiled = one.slots is not None or one.view is not None  # prefills, and what is not the model's own
        self._state.form = "own" if uncompiled and self.form == "compiled" else self.form
        self._state.view, self._state.inputs = one.view, CachedInputs(self._cache, positions)
        self._state.prefill = one.slots is not None
        try:
            logits: Tensor = self._model(
                input_ids=token_ids,
                position_ids=self._within(positions, extent),
                attention_mask=mask_for(self._convolves, self._stand_in.expand(rows, 1, columns, extent)),
                use_cache=True,
                logits_to_keep=one.kept,
                **{self._cache_argument: self.past},
            ).logits
        finally:
            self._state.form, self._state.view, self._state.inputs = "own", None, None
            self._state.prefill = False
        return logits

    def _within(self, positions: Tensor, extent: int) -> Tensor:
        """Return positions that the model has; extent: of the slots that any replay of this pass may reach."""
        if self._max_length is None or extent <= self._max_length:
            return positions
        return positions.clamp(max=self._max_length - 1)

    def report(self) -> Mapping[str, Any]:
        """Return the form of the layers."""
        return {"layers": self.form}
