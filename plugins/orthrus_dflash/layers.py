"""A layer of a DFlash drafter. B: rows, n: tokens, H: heads, Hkv: heads of keys, d: size of a head, h: hidden size."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.nn.functional import linear, rms_norm, silu

from orthrus.drafter_models.attention import attend
from orthrus.drafter_models.key_values import KeyValues
from orthrus.drafter_models.narrow import NarrowLayer, normed_product, product
from orthrus.drafter_models.rotary import rotate
from orthrus_dflash.config import DFlashConfig

Angles = tuple[Tensor, Tensor]


@dataclass(frozen=True, eq=False)
class LayerWeights:
    """The weights of a layer; those that read the same input are one matrix.

    projections [(H + 2 Hkv) d, h]: queries, keys, values. head_norms [H + Hkv, 1, d]: of queries and keys. gate_up
    [2 m, h].
    """

    input_norm: Tensor
    projections: Tensor
    head_norms: Tensor
    output: Tensor
    mlp_norm: Tensor
    gate_up: Tensor
    down: Tensor


@dataclass(frozen=True, eq=False)
class Layer:
    """Computes with the weights of one layer."""

    index: int
    weights: LayerWeights
    config: DFlashConfig

    def feed(self, context: Tensor, angles: Angles, store: KeyValues, slots: Tensor, rows: Tensor | None) -> None:
        """Write keys and values of context rows [R, n, h] into slots [R, n]; the layer's input norm is not theirs."""
        config = self.config
        of_keys = config.heads * config.head_size
        if rows is None and self._narrow.fits(context):
            joined = product(context, self.weights.projections[of_keys:])
            self._narrow.write(joined, angles, store, self.index, slots)
            return
        states = self._heads(linear(context, self.weights.projections[of_keys:]))  # [R, 2 Hkv, n, d]
        keys, values = states.chunk(2, dim=1)
        keys = rotate(self._normed(keys, self.weights.head_norms[config.heads :]), angles)
        store.write(self.index, keys, values, slots, rows)

    def forward(self, hidden: Tensor, angles: Angles, mask: Tensor, store: KeyValues, slots: Tensor) -> Tensor:
        """Return the rows of a block [B, K, h] after the layer, which may take the place of those before it.

        mask [B, G, K, E]: of `attention_mask`.
        """
        if self._narrow.fits(hidden):
            return self._narrow_forward(hidden, angles, mask, store, slots)
        epsilon, width = self.config.epsilon, hidden.shape[-1:]
        attended = self._attend(rms_norm(hidden, width, self.weights.input_norm, epsilon), angles, mask, store, slots)
        hidden = hidden + linear(attended, self.weights.output)
        gate, up = linear(rms_norm(hidden, width, self.weights.mlp_norm, epsilon), self.weights.gate_up).chunk(2, -1)
        return hidden + linear(silu(gate) * up, self.weights.down)

    def _narrow_forward(self, hidden: Tensor, angles: Angles, mask: Tensor, store: KeyValues, slots: Tensor) -> Tensor:
        """Do the same for a few tokens on a GPU."""
        weights = self.weights
        joined = normed_product(hidden, weights.input_norm, weights.projections, self.config.epsilon)
        queries = self._narrow.write(joined, angles, store, self.index, slots)
        held = store.read(self.index, len(queries), mask.shape[-1])
        return self._narrow.finish(attend(queries, *held, mask), hidden)

    @cached_property
    def _narrow(self) -> NarrowLayer:
        return NarrowLayer.of(self.weights, self.config.heads, self.config.key_heads, self.config.epsilon)

    def _attend(self, normed: Tensor, angles: Angles, mask: Tensor, store: KeyValues, slots: Tensor) -> Tensor:
        config = self.config
        states = self._heads(linear(normed, self.weights.projections))  # [B, H + 2 Hkv, K, d]
        turning, values = torch.split(states, [config.heads + config.key_heads, config.key_heads], dim=1)
        turned = rotate(self._normed(turning, self.weights.head_norms), angles)
        queries, keys = torch.split(turned, [config.heads, config.key_heads], dim=1)
        store.write(self.index, keys, values, slots)
        return attend(queries, *store.read(self.index, len(queries), mask.shape[-1]), mask)

    def _heads(self, states: Tensor) -> Tensor:
        """Return [R, heads, n, d] of states [R, n, heads * d]."""
        size = self.config.head_size
        return states.view(*states.shape[:2], states.shape[-1] // size, size).transpose(1, 2)

    def _normed(self, states: Tensor, norms: Tensor) -> Tensor:
        return rms_norm(states, states.shape[-1:], None, self.config.epsilon) * norms


def stack_layer(tensors: dict[str, Tensor], index: int, config: DFlashConfig) -> LayerWeights:
    """Return a layer's weights of a checkpoint's tensors, which are taken out of the mapping."""

    def take(name: str) -> Tensor:
        return tensors.pop(f"layers.{index}.{name}.weight")

    queries, keys = take("self_attn.q_norm"), take("self_attn.k_norm")
    norms = torch.cat([queries.expand(config.heads, 1, -1), keys.expand(config.key_heads, 1, -1)])
    return LayerWeights(
        input_norm=take("input_layernorm"),
        projections=torch.cat([take(f"self_attn.{part}_proj") for part in "qkv"]),
        head_norms=norms.contiguous(),
        output=take("self_attn.o_proj"),
        mlp_norm=take("post_attention_layernorm"),
        gate_up=torch.cat([take(f"mlp.{part}_proj") for part in ("gate", "up")]),
        down=take("mlp.down_proj"),
    )
