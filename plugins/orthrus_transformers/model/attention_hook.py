"""Routes the attention of an unmodified transformers model through an attention backend.

transformers calls one registered function from every layer; that function finds the pass being run, and with it the
backend, on the module that calls. The `attention_mask` that the model hands around is a stand-in: what is visible is
told to the backend once a pass, by positions and lengths, and prepared once for each window that layers have.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from orthrus import AttentionBackend, BuildError, MaskDescription
from orthrus_transformers.kernels.skinny_linear import Normed
from orthrus_transformers.model.short_convolutions import PastInputs, route_convolutions

NAME = "orthrus"
Form = Literal["own", "fused", "packed", "compiled"]


class PassState:
    """The attention backend, and what it prepared for the pass being run; shared by all layers of one model."""

    def __init__(self, backend: AttentionBackend, dtype: torch.dtype) -> None:
        self.backend = backend
        self.windows: list[int | None] = []  # of the layers that the running pass has come to
        self.masked_windows: Mapping[int, int | None] = {}  # by layer, where only transformers' mask has it
        self.form: Form = "own"  # which form of its layers the running pass takes
        self.view: Any = None  # the View that the running pass goes through; None: the model's own attention
        self.inputs: PastInputs | None = None  # of layers that convolve tokens, while a pass runs
        self.copies = False  # whether products on a CPU hold their weights in a second order
        self.carried: Normed | None = None  # what a fused layer left ready for the next one
        self.prefill = False  # whether the pass is over prompts
        self._dtype = dtype
        self._mask: MaskDescription | None = None
        self._prepared: dict[int | None, Any] = {}

    def begin(self, mask: MaskDescription) -> None:
        """Start a pass: forget what was prepared for the one before."""
        self.windows, self.carried, self._mask, self._prepared = [], None, mask, {}

    def prepared(self, window: int | None) -> Any:
        """Return what the backend needs for layers with this window, preparing it when the first layer asks."""
        self.windows.append(window)
        if window not in self._prepared:
            assert self._mask is not None, "a pass begins before its layers run"
            self._check(window)
            self._prepared[window] = self.backend.prepare(self._mask, window, self._dtype)
        return self._prepared[window]

    def _check(self, window: int | None) -> None:
        # Only the layers say what windows they use; the probe asks them when the model is loaded.
        if window is not None and not self.backend.capabilities.windows:
            name = type(self.backend).__name__
            raise BuildError(
                f"the model has layers with a window of {window} keys, which attention {name} cannot compute;"
                " set attention.name=eager"
            )

    def __deepcopy__(self, memo: dict[int, Any]) -> PassState:
        return self  # copies of an attention module take part in the same passes


def attach(model: Any, state: PassState) -> str:
    """Route the model's attention through the state's backend; return the name of the model's own implementation.

    Raises BuildError for a model whose attention cannot be exchanged.
    """
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, attention_forward)
    own = str(getattr(model, "orthrus_own_attention", model.config._attn_implementation))
    if own == "sdpa" and getattr(model.config.get_text_config(), "attn_logit_softcapping", None) is not None:
        own = "eager"  # some versions of transformers choose sdpa for such a model, which leaves the caps out
    model.orthrus_own_attention = own  # a model may be attached again, with another backend
    for module in model.modules():
        module.orthrus_attention = state
    route_convolutions(model)
    model.set_attn_implementation(NAME)
    if model.config._attn_implementation != NAME:
        raise BuildError(f"model type '{model.config.model_type}' computes attention in a way that cannot be exchanged")
    return own


def attention_forward(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    position_bias: Tensor | None = None,
    **unused: Any,
) -> tuple[Tensor, None]:
    """Compute one layer's attention: query [B, H, n, D], key and value [B, H_kv, extent, D] -> [B, n, H, D]."""
    if position_bias is not None:
        raise BuildError(f"model type '{module.config.model_type}' adds a position bias to its scores; not supported")
    state: PassState = module.orthrus_attention
    window = state.masked_windows.get(module.layer_idx, sliding_window) if state.masked_windows else sliding_window
    out = state.backend.attend(
        query,
        key,
        value,
        state.prepared(window),
        scale=query.shape[-1] ** -0.5 if scaling is None else scaling,
        softcap=softcap,
        sinks=s_aux,
    )
    return out.transpose(1, 2).contiguous(), None
