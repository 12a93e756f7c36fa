"""The two passes of training a view: over packed rows through the frozen model, over blocks of masks through the view.

Both give hidden states after the model's last norm; `project` turns them into logits. Only the view's own weights have
gradients (the paper's section 3: everything else is shared and frozen).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import embedding, linear

from orthrus import BuildError, MaskDescription, MaskedBlocks, PackedRows
from orthrus_transformers.guards import on_its_device
from orthrus_transformers.model.context_length import max_length
from orthrus_transformers.model.llama_like import KNOWN_MODELS, fits_layer, layer_window
from orthrus_transformers.model.pass_state import PassState
from orthrus_transformers.model.recurrent_layers import find_recurrent
from orthrus_transformers.model.short_convolutions import find_convolutions, mask_for
from orthrus_transformers.model.views import View
from orthrus_transformers.training.attention import DualAttention, in_many_forms
from orthrus_transformers.training.convolution_inputs import DualInputs
from orthrus_transformers.training.layers import LayerSizes, decoder_layer, layer_weights


class DualPass:
    """Run the passes of one view's training. R: rows, L: columns of a row, N: blocks a row, K: size of a block.

    flex: FlexAttention instead of dense masks; compiled: the layers through torch.compile, if they are of a known kind.
    """

    def __init__(self, model: Any, state: PassState, view: View, flex: bool, compiled: bool) -> None:
        if find_recurrent(model):
            raise BuildError(
                f"model type '{model.config.model_type}' has recurrent layers, through which no view can be trained"
            )
        self.device: torch.device = model.device
        self._model = model
        self._trunk = model.get_decoder()
        self._state = state
        self._view = view
        self._twins = {twin.layer_idx: twin for twin in view.twins.values()}
        self._attention = DualAttention(flex)
        self._inputs = DualInputs()
        self._max_length = max_length(model)
        self._convolves = bool(find_convolutions(model))
        self.plain_head = self._has_plain_head()
        layers = list(self._trunk.layers) if type(self._trunk).__name__ in KNOWN_MODELS else []
        self._layers = layers if layers and all(map(fits_layer, layers)) else []
        self._layer = in_many_forms(decoder_layer) if compiled else decoder_layer
        for weight in view.weights().values():
            weight.requires_grad_()

    @on_its_device
    def committed(self, rows: PackedRows) -> Tensor:
        """Return the frozen model's hidden states [R, L, E]; its keys and values are kept for `drafted`."""
        self._attention.begin_rows(rows.starts)
        self._inputs.begin_rows(rows.starts)
        columns = torch.arange(rows.starts.shape[1], device=rows.starts.device)
        with torch.no_grad():
            return self.run(rows.token_ids, columns - rows.starts, None)

    @on_its_device
    def drafted(self, rows: PackedRows, blocks: MaskedBlocks) -> Tensor:
        """Return the view's hidden states [R, N, K, E] of blocks in the rows that `committed` saw last.

        They have gradients, but where torch records none.
        """
        anchors, size = blocks.anchors, blocks.size
        self._attention.begin_blocks(rows.starts, anchors, size)
        self._inputs.begin_blocks(rows.starts, anchors, size)
        token_ids = torch.full((*anchors.shape, size), blocks.mask_token_id, device=anchors.device)
        token_ids[..., 0] = rows.token_ids.gather(1, anchors)
        first = anchors - rows.starts.gather(1, anchors)  # [R, N] positions of the anchors
        positions = first[..., None] + torch.arange(size, device=anchors.device)
        hidden = self.run(token_ids.flatten(1), positions.flatten(1), self._view)
        return hidden.view(*anchors.shape, size, -1)

    def project(self, hidden: Tensor, correction: Tensor | None = None) -> Tensor:
        """Return the logits [..., V] of hidden states [..., E], as the model's own head computes them.

        correction [..., E]: its products with the head's matrix are added, without what a model does to logits.
        """
        weight = self._model.get_output_embeddings().weight
        if self.plain_head:
            return linear(hidden if correction is None else hidden + correction, weight)
        logits = self._through_model(hidden)
        return logits if correction is None else logits + linear(correction, weight)

    @torch.no_grad()
    def embed(self, tokens: Tensor) -> Tensor:
        """Return the rows [..., E] of the embedding table for tokens [...], as they are stored."""
        return embedding(tokens, self._model.get_input_embeddings().weight)

    def close(self) -> None:
        """Forget keys, values and inputs, and that the view's weights have gradients."""
        self._attention.keys_and_values, self._inputs = [], DualInputs()
        for weight in self._view.weights().values():
            weight.requires_grad_(False).grad = None

    def run(self, token_ids: Tensor, positions: Tensor, view: View | None) -> Tensor:
        """Return the hidden states [R, n, E] of tokens [R, n] at positions [R, n]; view None: of the frozen model."""
        if self._max_length is not None:  # of masks behind the model's context, which nothing is asked of
            positions = positions.clamp(max=self._max_length - 1)
        return (
            self._run_layers(token_ids, positions, view)
            if self._layers
            else self._run_modules(token_ids, positions, view)
        )

    def _run_layers(self, token_ids: Tensor, positions: Tensor, view: View | None) -> Tensor:
        """Run layers of a known kind as functions of their weights."""
        hidden = self._trunk.embed_tokens(token_ids).detach()
        if view is not None and torch.is_grad_enabled():
            hidden.requires_grad_()  # like the input of every other layer, so that one compilation serves all
        cosine, sine = self._trunk.rotary_emb(hidden.detach(), positions)
        for index, layer in enumerate(self._layers):
            attention = layer.self_attn if view is None else self._twins[index]
            mask = self._mask(layer, view)
            past = None if view is None else self._attention.keys_and_values[index]
            weights = layer_weights(layer, attention)
            hidden, key, value = self._layer(hidden, cosine, sine, weights, past, mask, self._sizes(layer))
            if view is None:
                self._attention.keys_and_values.append((key, value))
        normed: Tensor = self._trunk.norm(hidden)
        return normed

    def _run_modules(self, token_ids: Tensor, positions: Tensor, view: View | None) -> Tensor:
        """Run the model's own modules, whatever they are, with the attention of training in them."""
        rows, columns = token_ids.shape
        stand_in = torch.zeros(1, 1, 1, 1, dtype=torch.bool, device=token_ids.device)
        mask = MaskDescription("block", positions, positions[:, 0], columns)
        with self._state.run(mask, view=view, inputs=self._inputs, backend=self._attention):
            hidden: Tensor = self._trunk(
                input_ids=token_ids,
                position_ids=positions,
                attention_mask=mask_for(self._convolves, stand_in.expand(rows, 1, columns, columns)),
                use_cache=False,
            ).last_hidden_state
        return hidden

    def _mask(self, layer: Any, view: View | None) -> Any:
        """Return what a layer sees; blocks without a window have kernels of their own, if their size fits."""
        window = layer_window(layer)
        stretches = self._attention.stretches(layer.self_attn.head_dim) if view and window is None else None
        return stretches or self._attention.mask(window, self._model.device)

    def _sizes(self, layer: Any) -> LayerSizes:
        epsilon = layer.input_layernorm.variance_epsilon
        return LayerSizes(layer.self_attn.head_dim, layer.self_attn.scaling, epsilon, self._attention.flex)

    @torch.no_grad()
    def _has_plain_head(self) -> bool:
        """Tell whether the head is one matrix: no bias, no scale, no cap."""
        head = self._model.get_output_embeddings()
        if type(head) is not torch.nn.Linear or head.bias is not None:
            return False
        some = torch.randn(1, 4, head.in_features, generator=torch.Generator().manual_seed(0))
        some = (10 * some).to(head.weight.device, head.weight.dtype)
        return torch.equal(self._through_model(some), linear(some, head.weight))

    def _through_model(self, hidden: Tensor) -> Tensor:
        """Return the logits of the model's own forward, its trunk standing aside for the hidden states given."""
        taken = _TrunkOutput(hidden.reshape(1, -1, hidden.shape[-1]))
        if "forward" in vars(self._trunk):
            raise BuildError(f"model type '{self._model.config.model_type}' takes no training: its trunk is wrapped")
        self._trunk.forward = lambda *args, **kwargs: taken
        try:
            ids = torch.zeros(1, 1, dtype=torch.int64, device=hidden.device)
            logits: Tensor = self._model(input_ids=ids, use_cache=False).logits
        finally:
            del self._trunk.forward
        return logits.reshape(*hidden.shape[:-1], -1)


class _TrunkOutput:
    """The output of a trunk: hidden states, and nothing of all else that models ask for."""

    def __init__(self, hidden: Tensor) -> None:
        self.last_hidden_state = hidden

    def __getattr__(self, name: str) -> None:
        return None

    def __getitem__(self, index: int) -> Tensor:
        return (self.last_hidden_state,)[index]
