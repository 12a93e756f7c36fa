"""A model's layers as the native kernels are told of them. H: heads, H_kv: heads of keys, D: size of a head."""

from __future__ import annotations

from collections.abc import Sequence
from ctypes import Array
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from orthrus_transformers.model.decoder_layers import find_layers
from orthrus_transformers.model.llama_like import layer_window
from orthrus_transformers.model.views import View
from orthrus_transformers.native.library import LayerStructure, MatrixStructure, ModelStructure
from orthrus_transformers.native.weights import MatrixFactory, NativeMatrix, vector_in_place


@dataclass(frozen=True, eq=False)
class NativeLayers:
    """All layers, with the model's own attention or a view's, and what holds their memory."""

    structures: Array[LayerStructure]
    held: Sequence[object]


def describe_layers(
    model: Any, matrices: MatrixFactory, view: View | None = None, rounded: bool = False
) -> NativeLayers:
    """Return the layers of a model; view: whose attention stands in the place of the model's own.

    rounded: whether that attention's weights are rounded to four bits.
    """
    layers = find_layers(model)
    structures = (LayerStructure * len(layers))()
    held: list[object] = []
    twins = _by_module(model, view)
    for structure, layer in zip(structures, layers, strict=True):
        attention = twins.get(layer.self_attn, layer.self_attn)
        modules = {
            **{name: getattr(attention, f"{short}_proj") for name, short in ATTENTION.items()},
            **{name: getattr(layer.mlp, f"{name}_proj") for name in ("gate", "up", "down")},
        }
        norms = {
            "attention_norm": layer.input_layernorm,
            "mlp_norm": layer.post_attention_layernorm,
            "query_norm": getattr(attention, "q_norm", None),
            "key_norm": getattr(attention, "k_norm", None),
        }
        for name, module in modules.items():
            made = matrices.rounded_of_module if rounded and name in ATTENTION else matrices.of_module
            setattr(structure, name, _held(made(module), held))
        for name, norm in norms.items():
            if norm is not None:
                setattr(structure, name, _held(vector_in_place(norm.weight), held))
        structure.window = layer_window(layer) or 0
    return NativeLayers(structures, held)


ATTENTION = {"query": "q", "key": "k", "value": "v", "output": "o"}


def describe_model(model: Any, matrices: MatrixFactory) -> tuple[ModelStructure, Sequence[object]]:
    """Return what is outside of the layers, and what holds its memory."""
    first = find_layers(model)[0]
    attention, config = first.self_attn, model.config.get_text_config()
    held: list[object] = []
    structure = ModelStructure(
        hidden=config.hidden_size,
        inner=first.mlp.gate_proj.out_features,
        heads=attention.q_proj.out_features // attention.head_dim,
        key_heads=attention.k_proj.out_features // attention.head_dim,
        head_size=attention.head_dim,
        vocabulary=config.vocab_size,
        epsilon=first.input_layernorm.variance_epsilon,
        scale=attention.scaling,
        embedding=_held(matrices.of_module(model.get_input_embeddings()), held),
        head=_held(matrices.of_module(model.get_output_embeddings()), held),
        norm=_held(vector_in_place(model.base_model.norm.weight), held),
    )
    return structure, held


def layer_windows(model: Any) -> list[int | None]:
    """Return how many keys each layer's queries see; None: all."""
    return [layer_window(layer) for layer in find_layers(model)]


def _by_module(model: Any, view: View | None) -> dict[Any, Any]:
    return {} if view is None else {model.get_submodule(path): twin for path, twin in view.twins.items()}


def _held(matrix: NativeMatrix, held: list[object]) -> MatrixStructure:
    held.extend(matrix.held)
    return matrix.structure


def unique_tensors(held: Sequence[object]) -> int:
    """Return the bytes of the tensors in a list, each counted once."""
    return sum({id(tensor): tensor.nbytes for tensor in held if isinstance(tensor, Tensor)}.values())
