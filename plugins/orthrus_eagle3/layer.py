"""The layer of an EAGLE-3 drafter. B: rows, n: tokens, H: heads, Hkv: heads of keys, d: size of a head, h: hidden."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.nn.functional import linear, rms_norm, silu

from orthrus.drafter_models.attention import attend, attention_mask
from orthrus.drafter_models.key_values import KeyValues
from orthrus.drafter_models.narrow import NarrowLayer, product
from orthrus.drafter_models.rotary import rotate
from orthrus.kernels import small_ops
from orthrus_eagle3.config import Eagle3Config

Angles = tuple[Tensor, Tensor]


@dataclass(frozen=True, eq=False)
class LayerWeights:
    """The weights of the layer; those that read the same input are one matrix.

    projections [(H + 2 Hkv) d, 2 h]: queries, keys, values, of an embedding beside a feature. head_norms [H + Hkv, 1,
    d]: of queries and keys, or None. gate_up [2 m, h].
    """

    embedding_norm: Tensor
    feature_norm: Tensor
    projections: Tensor
    head_norms: Tensor | None
    output: Tensor
    mlp_norm: Tensor
    gate_up: Tensor
    down: Tensor

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor], config: Eagle3Config) -> LayerWeights:
        """Return the weights of a checkpoint's tensors, by the names of `weights.expected_shapes`."""

        def joined(names: str) -> Tensor:
            return torch.cat([tensors[f"{name}_proj.weight"] for name in names.split()])

        norms = None
        if config.head_norms:
            queries, keys = (tensors[f"self_attn.{part}_norm.weight"] for part in "qk")
            norms = torch.cat([queries.expand(config.heads, 1, -1), keys.expand(config.key_heads, 1, -1)])
        return cls(
            embedding_norm=tensors["input_layernorm.weight"],
            feature_norm=tensors["hidden_norm.weight"],
            projections=joined("self_attn.q self_attn.k self_attn.v"),
            head_norms=norms,
            output=tensors["self_attn.o_proj.weight"],
            mlp_norm=tensors["post_attention_layernorm.weight"],
            gate_up=joined("mlp.gate mlp.up"),
            down=tensors["mlp.down_proj.weight"],
        )


@dataclass(frozen=True, eq=False)
class Layer:
    """Computes with the layer's weights."""

    weights: LayerWeights
    config: Eagle3Config

    def forward(
        self,
        embedded: Tensor,
        features: Tensor,
        angles: Angles,
        mask: Tensor,
        store: KeyValues,
        slots: Tensor,
        rows: Tensor | None = None,
    ) -> Tensor:
        """Return the features [R, n, h] after the layer, of embeddings and features [R, n, h] of rows [R].

        Keys and values are written into slots [R, n] before they are read. mask [R, G, n, E]: of `mask`.
        """
        if rows is None and self._narrow.fits(features):
            return self._narrow_forward(embedded, features, angles, mask, store, slots)
        epsilon, weights, width = self.config.epsilon, self.weights, features.shape[-1:]
        normed = rms_norm(features, width, weights.feature_norm, epsilon)
        joined = torch.cat([rms_norm(embedded, width, weights.embedding_norm, epsilon), normed], dim=-1)
        residual = normed if self.config.norm_before_residual else features
        hidden = residual + linear(self._attend(joined, angles, mask, store, slots, rows), weights.output)
        gate, up = linear(rms_norm(hidden, width, weights.mlp_norm, epsilon), weights.gate_up).chunk(2, -1)
        return hidden + linear(silu(gate) * up, weights.down)

    def mask(self, visible: Tensor) -> Tensor:
        """Return what is added to the scores [R, G, n, E] of the G heads of queries that share a key's.

        visible [R, n, E]: which slots each row sees.
        """
        groups = self.config.heads // self.config.key_heads
        return attention_mask(visible, groups, self.weights.output.dtype)

    def _narrow_forward(
        self, embedded: Tensor, features: Tensor, angles: Angles, mask: Tensor, store: KeyValues, slots: Tensor
    ) -> Tensor:
        """Do the same for a few tokens on a GPU."""
        epsilon, weights = self.config.epsilon, self.weights
        normed = small_ops.rms_norm(features, weights.feature_norm, epsilon)
        joined = torch.cat([small_ops.rms_norm(embedded, weights.embedding_norm, epsilon), normed], dim=-1)
        residual = normed if self.config.norm_before_residual else features.clone()  # which is written over
        queries = self._narrow.write(product(joined, weights.projections), angles, store, 0, slots)
        held = store.read(0, len(queries), mask.shape[-1])
        return self._narrow.finish(attend(queries, *held, mask), residual)

    @cached_property
    def _narrow(self) -> NarrowLayer:
        return NarrowLayer.of(self.weights, self.config.heads, self.config.key_heads, self.config.epsilon)

    def _attend(
        self, joined: Tensor, angles: Angles, mask: Tensor, store: KeyValues, slots: Tensor, rows: Tensor | None
    ) -> Tensor:
        config, (count, tokens) = self.config, joined.shape[:2]
        states = linear(joined, self.weights.projections).view(count, tokens, -1, config.head_size).transpose(1, 2)
        turning, values = torch.split(states, [config.heads + config.key_heads, config.key_heads], dim=1)
        if self.weights.head_norms is not None:
            turning = rms_norm(turning, turning.shape[-1:], None, config.epsilon) * self.weights.head_norms
        queries, keys = torch.split(rotate(turning, angles), [config.heads, config.key_heads], dim=1)
        store.write(0, keys, values, slots, rows)
        held_keys, held_values = store.read(0, count if rows is None else store.rows, mask.shape[-1])
        if rows is not None:
            held_keys, held_values = held_keys[rows], held_values[rows]
        return attend(queries, held_keys, held_values, mask)
