"""Decoder layers of the Llama kind as one function of tensors, so that one compilation serves all layers of training.

Called as modules, each layer would be compiled anew: its number and its view are facts that the compiler relies on.
E: hidden size, D: size of a head, I: size of the MLP.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import linear, rms_norm, silu

from orthrus.kernels.small_ops import rotate
from orthrus_transformers.training.attention import attend_dense, attend_flex
from orthrus_transformers.training.masks import Stretches


class LayerWeights(NamedTuple):
    """The weights of a layer, its attention's being the model's own or a view's."""

    before: Tensor  # [E] of the first norm
    query: Tensor  # [H D, E]
    key: Tensor  # [H_kv D, E]
    value: Tensor  # [H_kv D, E]
    biases: tuple[Tensor, Tensor, Tensor] | None
    head_norms: tuple[Tensor, Tensor] | None  # [D] of queries and keys
    out: Tensor  # [E, H D]
    after: Tensor  # [E] of the second norm
    gate: Tensor  # [I, E]
    up: Tensor  # [I, E]
    down: Tensor  # [E, I]


class LayerSizes(NamedTuple):
    """The sizes that all layers of a model share."""

    head: int
    scale: float
    epsilon: float
    flex: bool


def layer_weights(layer: Any, attention: Any) -> LayerWeights:
    """Return the weights of a layer of the Llama kind with this attention; no copies."""
    projections = (attention.q_proj, attention.k_proj, attention.v_proj)
    biased = attention.q_proj.bias is not None
    normed = hasattr(attention, "q_norm")
    return LayerWeights(
        before=layer.input_layernorm.weight,
        query=attention.q_proj.weight,
        key=attention.k_proj.weight,
        value=attention.v_proj.weight,
        biases=(projections[0].bias, projections[1].bias, projections[2].bias) if biased else None,
        head_norms=(attention.q_norm.weight, attention.k_norm.weight) if normed else None,
        out=attention.o_proj.weight,
        after=layer.post_attention_layernorm.weight,
        gate=layer.mlp.gate_proj.weight,
        up=layer.mlp.up_proj.weight,
        down=layer.mlp.down_proj.weight,
    )


def decoder_layer(
    hidden: Tensor,
    cosine: Tensor,
    sine: Tensor,
    weights: LayerWeights,
    past: tuple[Tensor, Tensor] | None,
    mask: Any,
    sizes: LayerSizes,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the layer's output [R, n, E] and its own keys and values [R, n, H_kv, D]; past: those seen before them.

    mask: a BlockMask, a tensor [R, 1, n, slots], or Stretches for the kernels of blocks.
    """
    normed = rms_norm(hidden, hidden.shape[-1:], weights.before, sizes.epsilon)
    query, key, value = _heads(normed, weights, sizes)
    cosine, sine = cosine[:, :, None], sine[:, :, None]
    query, key = rotate(query, cosine, sine), rotate(key, cosine, sine)
    seen = _attend(query, key, value, past, mask, sizes)
    hidden = hidden + linear(seen.flatten(2), weights.out)
    normed = rms_norm(hidden, hidden.shape[-1:], weights.after, sizes.epsilon)
    inner = silu(linear(normed, weights.gate)) * linear(normed, weights.up)
    return hidden + linear(inner, weights.down), key, value


def _attend(
    query: Tensor, key: Tensor, value: Tensor, past: tuple[Tensor, Tensor] | None, mask: Any, sizes: LayerSizes
) -> Tensor:
    """Return attention [R, n, H, D]."""
    if isinstance(mask, Stretches) and past is not None:
        from orthrus_transformers.training.triton_block_attention import attend_blocks

        seen: Tensor = attend_blocks(query, *past, key, value, mask.first, mask.end, sizes.scale)[0]
        return seen
    keys, values = (key, value) if past is None else (torch.cat([past[0], key], 1), torch.cat([past[1], value], 1))
    attend = attend_flex if sizes.flex else attend_dense
    seen = attend(query.transpose(1, 2), keys.transpose(1, 2), values.transpose(1, 2), mask, sizes.scale)
    return seen.transpose(1, 2)


def _heads(normed: Tensor, weights: LayerWeights, sizes: LayerSizes) -> tuple[Tensor, Tensor, Tensor]:
    """Return query, key and value [R, n, heads, D], normed where the model norms its heads."""
    counts = [weight.shape[0] for weight in (weights.query, weights.key, weights.value)]
    bias = None if weights.biases is None else torch.cat(weights.biases)
    joined = linear(normed, torch.cat([weights.query, weights.key, weights.value]), bias)
    query, key, value = (part.view(*part.shape[:-1], -1, sizes.head) for part in torch.split(joined, counts, -1))
    if weights.head_norms is not None:
        query = rms_norm(query, (sizes.head,), weights.head_norms[0], sizes.epsilon)
        key = rms_norm(key, (sizes.head,), weights.head_norms[1], sizes.epsilon)
    return query, key, value.contiguous()
