"""The state of the pass being run, which all layers of one model share, and the interface of what convolutions read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from orthrus import AttentionBackend, BuildError, MaskDescription
from orthrus.kernels.normed import Normed
from orthrus_transformers.recurrent.layer_states import LayerStates

Form = Literal["own", "fused", "packed", "compiled"]


class PastInputs(Protocol):
    """Inputs of the tokens that came before those of a pass, for layers that convolve tokens."""

    def with_those_before(self, inputs: Tensor, layer: int, count: int) -> Tensor:
        """Return, for each of inputs [R, n, E], it and those before it in its text, oldest first [R, n, count, E]."""


class WritesTaps(Protocol):
    """Takes hidden states of a pass."""

    def write(self, index: int, hidden: Tensor) -> None:
        """Copy the states [R, n, h] at one of the points that are tapped."""


@dataclass(frozen=True, eq=False)
class Placement:
    """Columns of a pass: the slots [R, n] that their keys go to, and how many slots they attend to."""

    columns: slice
    slots: Tensor
    extent: int


@dataclass(frozen=True, eq=False)
class RowsBeside:
    """A view's rows in the same pass as the model's own: what they see, and where both kinds are placed."""

    view: Any
    mask: MaskDescription
    own: Placement
    others: Placement
    prepared: dict[int | None, Any] = field(default_factory=dict)  # by window

    @cached_property
    def both(self) -> Placement:
        """The columns of both kinds in one piece, the model's own first, over the slots that the view's attend to."""
        slots = torch.cat([self.own.slots, self.others.slots], dim=1)
        return Placement(slice(0, slots.shape[1]), slots, self.others.extent)


class PassState:
    """The attention backend, and what is so in the pass being run: `run` sets it, and leaving that takes it back."""

    backend: AttentionBackend
    form: Form  # which form of its layers the pass takes
    view: Any  # the View that the pass goes through; None: the model's own attention
    inputs: PastInputs | None  # of layers that convolve tokens
    prefill: bool  # whether the pass is over prompts
    taps: WritesTaps | None  # what takes hidden states of the pass
    layer_states: LayerStates | None  # what recurrent layers read and leave
    in_parts: bool  # whether a model that several ranks share leaves its logits in parts
    beside: RowsBeside | None  # of a view, in a pass that scores a draft
    carried: Normed | None  # what a fused layer left ready for the next one
    _mask: MaskDescription | None
    _prepared: dict[int | None, Any]

    def __init__(self, backend: AttentionBackend, dtype: torch.dtype, steady_prefills: bool = False) -> None:
        self.steady_prefills = steady_prefills  # whether the bits of prompts' tokens may not depend on their pass
        self.masked_windows: Mapping[int, int | None] = {}  # by layer, where only transformers' mask has it
        self._backend = backend
        self._dtype = dtype
        self._watched: list[int | None] | None = None
        self._rest()

    def _rest(self) -> None:
        """Set what is so between passes."""
        self.backend, self.form, self.view, self.inputs, self.prefill = self._backend, "own", None, None, False
        self.taps, self.layer_states, self.carried, self._mask, self._prepared = None, None, None, None, {}
        self.in_parts, self.beside = False, None

    @contextmanager
    def run(
        self,
        mask: MaskDescription,
        *,
        form: Form = "own",
        view: Any = None,
        inputs: PastInputs | None = None,
        prefill: bool = False,
        taps: WritesTaps | None = None,
        layer_states: LayerStates | None = None,
        backend: AttentionBackend | None = None,
        in_parts: bool = False,
        beside: RowsBeside | None = None,
    ) -> Iterator[None]:
        """Run a pass within; backend None: the one that the state was made with."""
        self._mask, self.form, self.view, self.inputs, self.prefill = mask, form, view, inputs, prefill
        self.taps, self.layer_states, self.in_parts, self.beside = taps, layer_states, in_parts, beside
        self.backend = backend or self._backend
        try:
            yield
        finally:
            self._rest()

    @property
    def running(self) -> bool:
        """Whether a pass is being run: else a forward is the model's own."""
        return self._mask is not None

    @contextmanager
    def windows_seen(self) -> Iterator[list[int | None]]:
        """Yield a list that the windows of layers are added to, as passes within come to them."""
        windows: list[int | None] = []
        self._watched = windows
        try:
            yield windows
        finally:
            self._watched = None

    def saw(self, windows: Sequence[int | None]) -> None:
        """Note the windows of all layers, where a pass does not come to them one by one."""
        if self._watched is not None:
            self._watched.extend(windows)

    def prepared(self, window: int | None) -> Any:
        """Return what the backend needs for layers with this window, preparing it when the first layer asks."""
        if self._watched is not None:
            self._watched.append(window)
        if window not in self._prepared:
            assert self._mask is not None, "a pass begins before its layers run"
            self._check(window)
            self._prepared[window] = self.backend.prepare(self._mask, window, self._dtype)
        return self._prepared[window]

    def prepared_beside(self, window: int | None) -> Any:
        """Return what the backend needs for the view's rows beside a scored draft, in layers with this window."""
        assert self.beside is not None, "there are such rows"
        kept = self.beside.prepared
        if window not in kept:
            self._check(window)
            kept[window] = self.backend.prepare(self.beside.mask, window, self._dtype)
        return kept[window]

    def _check(self, window: int | None) -> None:
        # Only the layers say what windows they use; the self-check asks them when the model is loaded.
        if window is not None and not self.backend.capabilities.windows:
            name = type(self.backend).__name__
            raise BuildError(
                f"the model has layers with a window of {window} keys, which attention {name} cannot compute;"
                " set attention.name=eager"
            )

    def __deepcopy__(self, memo: dict[int, Any]) -> PassState:
        return self  # copies of an attention module take part in the same passes
