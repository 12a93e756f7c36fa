"""A decoder of the Llama kind in blocks, without transformers: the modules that the engine native and views read.

Modules and weights have the names of transformers' own, and no forward: passes are the engine's. What needs the model's
own forward asks for `whole`, which is transformers' model over the same file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module, ModuleList, Parameter

from orthrus_transformers.model.block_weights import BlockEmbedding, BlockLinear, BlockWeight


@dataclass(frozen=True, eq=False)
class BlockDescription:
    """What a decoder is made of, as transformers' model of the same file had it.

    config: that of its class as a mapping; weights, biases: in the file, and the paths of modules that have a bias;
    windows: how many keys each layer sees; frequencies [D / 2], scaling: of its rotary angles.
    """

    config: Mapping[str, Any]
    weights: Mapping[str, BlockWeight]
    biases: frozenset[str]
    windows: Sequence[int | None]
    frequencies: Sequence[float]
    scaling: float


class BlockConfig:
    """A config by the attributes of transformers' own."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = dict(values)
        self.__dict__.update(values)

    def get_text_config(self) -> BlockConfig:
        """Return itself: there is nothing but text."""
        return self

    def to_dict(self) -> dict[str, Any]:
        """Return all that it says."""
        return dict(self._values)


class BlockNorm(Module):
    """The weight [N] of a norm."""

    def __init__(self, weight: BlockWeight, epsilon: float) -> None:
        super().__init__()
        self.weight = Parameter(weight.vector(), requires_grad=False)
        self.variance_epsilon = epsilon


class BlockRotary(Module):
    """Rotary angles whose frequencies do not depend on the text's length."""

    inv_freq: Tensor

    def __init__(self, description: BlockDescription) -> None:
        super().__init__()
        self.register_buffer("inv_freq", torch.tensor(description.frequencies), persistent=False)
        self._scaling = description.scaling

    def forward(self, states: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Return cosines and sines [B, n, D / 2] of positions [B, n]."""
        angles = positions[..., None].float() * self.inv_freq
        return angles.cos() * self._scaling, angles.sin() * self._scaling


class BlockAttention(Module):
    """A layer's attention: its projections, and norms of heads where the model has them."""

    def __init__(self, parts: _Parts, layer: int) -> None:
        super().__init__()
        path, config = f"model.layers.{layer}.self_attn", parts.config
        self.layer_idx = layer
        self.head_dim = config.head_dim
        self.scaling = config.head_dim**-0.5
        self.sliding_window = parts.description.windows[layer]
        for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
            setattr(self, name, parts.linear(f"{path}.{name}"))
        for name in ("q_norm", "k_norm"):
            if f"{path}.{name}.weight" in parts.description.weights:
                setattr(self, name, parts.norm(f"{path}.{name}"))


class BlockMlp(Module):
    """A layer's gated MLP."""

    def __init__(self, parts: _Parts, layer: int) -> None:
        super().__init__()
        for name in ("gate_proj", "up_proj", "down_proj"):
            setattr(self, name, parts.linear(f"model.layers.{layer}.mlp.{name}"))


class BlockLayer(Module):
    """A decoder layer."""

    def __init__(self, parts: _Parts, layer: int) -> None:
        super().__init__()
        self.self_attn = BlockAttention(parts, layer)
        self.mlp = BlockMlp(parts, layer)
        self.input_layernorm = parts.norm(f"model.layers.{layer}.input_layernorm")
        self.post_attention_layernorm = parts.norm(f"model.layers.{layer}.post_attention_layernorm")


class BlockBase(Module):
    """All but the head."""

    def __init__(self, parts: _Parts) -> None:
        super().__init__()
        self.embed_tokens = BlockEmbedding(parts.description.weights["model.embed_tokens.weight"])
        self.layers = ModuleList(BlockLayer(parts, layer) for layer in range(parts.config.num_hidden_layers))
        self.norm = parts.norm("model.norm")
        self.rotary_emb = BlockRotary(parts.description)


class BlockDecoder(Module):
    """The model."""

    device = torch.device("cpu")
    dtype = torch.float32

    def __init__(self, description: BlockDescription, whole: Callable[[], Any]) -> None:
        """Describe the model; whole: returns transformers' own."""
        super().__init__()
        parts = _Parts(description)
        self.config = parts.config
        self.model = BlockBase(parts)
        self.lm_head = BlockLinear(description.weights.get("lm_head.weight", self.model.embed_tokens.blocks))
        self.whole = whole

    @property
    def base_model(self) -> BlockBase:
        """All but the head."""
        return self.model

    def get_input_embeddings(self) -> BlockEmbedding:
        """Return the embedding table."""
        return self.model.embed_tokens

    def get_output_embeddings(self) -> BlockLinear:
        """Return the head."""
        return self.lm_head


class _Parts:
    """Makes the modules of a description."""

    def __init__(self, description: BlockDescription) -> None:
        self.description = description
        self.config: Any = BlockConfig(description.config)

    def linear(self, path: str) -> BlockLinear:
        weight = self.description.weights[f"{path}.weight"]
        if path not in self.description.biases:
            return BlockLinear(weight)
        bias = self.description.weights.get(f"{path}.bias")
        return BlockLinear(weight, torch.zeros(weight.shape[0]) if bias is None else bias.vector())

    def norm(self, path: str) -> BlockNorm:
        return BlockNorm(self.description.weights[f"{path}.weight"], self.config.rms_norm_eps)
