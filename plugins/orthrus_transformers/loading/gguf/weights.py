"""Weights of a GGUF file as transformers has them: renamed, and what llama.cpp's converter did to values taken back."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from orthrus_transformers.loading.gguf.file import GgufFile
from orthrus_transformers.loading.gguf.names import transformers_name

PERMUTED = {"llama", "mixtral"}  # rotated pairs of q and k side by side
ONE_ADDED = {"gemma", "gemma2", "gemma3", "nemotron"}  # to the weights of norms
TRANSPOSED = ("attn.c_attn.weight", "attn.c_proj.weight", "mlp.c_fc.weight", "mlp.c_proj.weight")  # of gpt2


def read_weights(file: GgufFile, family: str, config: Any) -> dict[str, Tensor]:
    """Return all weights of the file that its family has a place for, in float32, by transformers' names."""
    weights: dict[str, Tensor] = {}
    for name in file.tensor_names:
        new = transformers_name(family, name)
        if new is not None:
            weights[new] = _restored(file.tensor(name), family, new, config)
    weights.update(_experts(file, family, int(config.num_hidden_layers)))
    if family == "stablelm":
        weights.update(_norms_of_heads(file, int(config.num_hidden_layers)))
    return weights


def _restored(values: Tensor, family: str, name: str, config: Any) -> Tensor:
    if family in PERMUTED and ".q_proj." in name:
        return unpermuted(values, config.num_attention_heads)
    if family in PERMUTED and ".k_proj." in name:
        return unpermuted(values, config.num_key_value_heads)
    if family in ONE_ADDED and "norm" in name and name.endswith(".weight"):
        return values - 1
    if family == "gpt2" and name.endswith(TRANSPOSED):
        return values.t().contiguous()
    if name.endswith(("conv.conv.weight", "shared_expert_gate.weight")):
        return values.reshape(1, -1) if values.dim() == 1 else values[:, None]
    return values


def unpermuted(values: Tensor, heads: int) -> Tensor:
    """Return q or k [H D, ...] with the two halves of each head one after the other, as transformers rotates them."""
    paired = values.reshape(heads, -1, 2, *values.shape[1:])
    return paired.transpose(1, 2).reshape(values.shape).contiguous()


def _experts(file: GgufFile, family: str, layers: int) -> Iterator[tuple[str, Tensor]]:
    """Yield the weights of experts [X, ...], gate and up in one tensor."""
    for layer in range(layers):
        old, new = f"blk.{layer}", f"model.layers.{layer}.mlp.experts"
        if f"{old}.ffn_gate_exps.weight" not in file.tensor_names:
            continue
        if family == "gpt-oss":
            yield from _interleaved_experts(file, old, new)
            if f"{old}.attn_sinks.weight" in file.tensor_names:
                yield f"model.layers.{layer}.self_attn.sinks", file.tensor(f"{old}.attn_sinks.weight")
            continue
        gate, up = file.tensor(f"{old}.ffn_gate_exps.weight"), file.tensor(f"{old}.ffn_up_exps.weight")
        yield f"{new}.gate_up_proj", torch.cat([gate, up], dim=1)  # [X, 2 I, E]
        yield f"{new}.down_proj", file.tensor(f"{old}.ffn_down_exps.weight")  # [X, E, I]


def _interleaved_experts(file: GgufFile, old: str, new: str) -> Iterator[tuple[str, Tensor]]:
    """Yield those of gpt-oss, whose gate and up take turns, inputs first."""
    for kind, end in (("weight", ""), ("bias", "_bias")):
        gate, up = (file.tensor(f"{old}.ffn_{side}_exps.{kind}") for side in ("gate", "up"))
        joined = torch.stack([gate, up], dim=2).flatten(1, 2)  # [X, 2 I, ...]
        down = file.tensor(f"{old}.ffn_down_exps.{kind}")
        if kind == "weight":
            joined, down = joined.transpose(1, 2).contiguous(), down.transpose(1, 2).contiguous()
        yield f"{new}.gate_up_proj{end}", joined
        yield f"{new}.down_proj{end}", down


def _norms_of_heads(file: GgufFile, layers: int) -> Iterator[tuple[str, Tensor]]:
    """Yield stablelm's norms of single heads, which the file keeps in one tensor [H, D]."""
    for layer in range(layers):
        for part in ("q", "k"):
            name = f"blk.{layer}.attn_{part}_norm.weight"
            if name not in file.tensor_names:
                continue
            for head, weight in enumerate(file.tensor(name)):
                yield f"model.layers.{layer}.self_attn.{part}_layernorm.norms.{head}.weight", weight.clone()
