"""The cache argument of models with recurrent layers, by the names under which transformers' layers ask for states.

Those of transformers 5.24 ask by methods, those of 5.17 look at a layer of the cache.
"""

from __future__ import annotations

from typing import Any, Literal

from torch import Tensor

from orthrus import KVCache
from orthrus_transformers.model.past_key_values import PastKeyValues
from orthrus_transformers.recurrent.layer_states import LayerStates


class RecurrentPast(PastKeyValues):
    """Keys and values in a cache, and states in those of the pass that is run.

    The cache has no layers for those that do not attend: layers are numbered as they first come.
    """

    def __init__(self, cache: KVCache) -> None:
        super().__init__(cache)
        self.states: LayerStates | None = None  # None: no pass is run
        self.layers = _Layers(self)
        self._numbers: dict[int, int] = {}

    def update(self, keys: Tensor, values: Tensor, layer: int, *args: Any, **more: Any) -> tuple[Tensor, Tensor]:
        """Write a layer's new keys and values and return all of them."""
        return super().update(keys, values, self._number(layer))

    def reserve(self, layer: int, like: Tensor, heads: int, size: int) -> tuple[Tensor, Tensor, Tensor] | None:
        """Return a layer's buffers to be written by a kernel, as a static cache does; None: `update` must be used."""
        return super().reserve(self._number(layer), like, heads, size)

    def read(self, layer: int) -> tuple[Tensor, Tensor]:
        """Return all keys and values of a layer whose buffers were reserved."""
        return super().read(self._number(layer))

    def get_conv_state(self, layer: int, state_idx: int = 0) -> Tensor | None:
        """Return the inputs that a convolution holds; None: none yet."""
        return self._states.held(layer, "conv", state_idx)

    def get_recurrent_state(self, layer: int, state_idx: int = 0) -> Tensor | None:
        """Return a recurrent state; None: there is none yet."""
        return self._states.held(layer, "recurrent", state_idx)

    def has_previous_state(self, layer: int | None = None, state_idx: int | None = None) -> bool:
        """Return whether layers have states from before the pass."""
        return not self._states.fresh

    def update_conv_state(
        self, inputs: Tensor, layer_idx: int, state_idx: int = 0, conv_kernel_size: int | None = None, **more: Any
    ) -> Tensor:
        """Take a convolution's new inputs and return them behind those that were held."""
        return self._states.take_inputs(inputs, layer_idx, state_idx, conv_kernel_size)

    def update_recurrent_state(self, state: Tensor, layer_idx: int, state_idx: int = 0, **more: Any) -> Tensor:
        """Take a recurrent state."""
        return self._states.take_state(state, layer_idx, state_idx)

    def get_mask_sizes(self, columns: int, layer: int) -> tuple[int, int]:
        """Return how many keys there are with those of the pass, and where they begin."""
        return self.length + columns, 0

    def get_query_offset(self, layer: int = 0) -> int:
        """Return the slots before the pass."""
        return self.length

    def is_recording_past(self, layer: int) -> bool:
        """Return False: what a rollback needs is recorded elsewhere."""
        return False

    @property
    def _states(self) -> LayerStates:
        assert self.states is not None, "a pass is run"
        return self.states

    def _number(self, layer: int) -> int:
        return self._numbers.setdefault(layer, len(self._numbers))


class _Layers:
    """The layers of the cache, by their numbers."""

    def __init__(self, past: RecurrentPast) -> None:
        self._past = past

    def __getitem__(self, layer: int) -> _Layer:
        return _Layer(self._past, layer)


class _Layer:
    """One layer of the cache as the library's of 5.17 look at it."""

    record_past = False

    def __init__(self, past: RecurrentPast, layer: int) -> None:
        self.conv_states = _States(past, layer, "conv")
        self.recurrent_states = _States(past, layer, "recurrent")


class _States:
    """The states of one kind of a layer, by their index."""

    def __init__(self, past: RecurrentPast, layer: int, kind: Literal["conv", "recurrent"]) -> None:
        self._past, self._layer, self._kind = past, layer, kind

    def __getitem__(self, index: int) -> Tensor | None:
        states = self._past.states
        assert states is not None, "a pass is run"
        return states.held(self._layer, self._kind, index)
