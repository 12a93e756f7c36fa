"""Tiny random models of many architectures, made so that a wrong position or a stale key changes their text.

With transformers' default initialisation and tied embeddings such models are blind: even a wrong anchor position
leaves their text as it was. A wide initializer_range and untied heads see it.
"""

from __future__ import annotations

import copy
import functools
from typing import Any

import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM

VOCABULARY = 40
WINDOW = 8
CONTEXT = 96

COMMON = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": CONTEXT,
    "initializer_range": 0.3,
    "tie_word_embeddings": False,
    "sliding_window": WINDOW,
    "use_sliding_window": True,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": None,
}
LEARNED_POSITIONS = {"n_embd": 32, "n_layer": 4, "n_head": 4, "n_positions": CONTEXT, "ffn_dim": 32}
EXPERTS = {"num_experts": 4, "num_local_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
CONVOLUTIONS = {"layer_types": ["conv", "full_attention", "conv", "full_attention"]}

# Families, and what their tiny config needs beyond COMMON.
FAMILIES: dict[str, dict[str, Any]] = {
    "arcee": {},
    "cohere": {},
    "cohere2": {},
    "exaone4": {},
    "gemma": {},
    "gemma2": {},
    "gemma3_text": {},
    "glm": {},
    "glm4": {},
    "gpt2": LEARNED_POSITIONS,
    "gpt_neox": {},
    "gpt_oss": EXPERTS,
    "granite": {},
    "helium": {},
    "hunyuan_v1_dense": {},
    "lfm2": {**CONVOLUTIONS, "block_auto_adjust_ff_dim": False},
    "lfm2_moe": {**CONVOLUTIONS, **EXPERTS, "num_dense_layers": 1},
    # A window it would not read, so that its saved config would be refused; all layers are alike, so that 2 do.
    "llama": {"sliding_window": None, "num_hidden_layers": 2},
    "ministral": {},
    "mistral": {},
    "mixtral": EXPERTS,
    "nemotron": {},
    "olmo2": {},
    "olmo3": {},
    "opt": {**LEARNED_POSITIONS, "word_embed_proj_dim": 32},
    "phi": {},
    "phi3": {},
    "qwen2": {},
    "qwen3": {},
    "qwen3_moe": EXPERTS,
    "seed_oss": {},
    "smollm3": {},
    "stablelm": {},
    "starcoder2": {},
}
DELTA = {
    "linear_num_value_heads": 4,
    "linear_num_key_heads": 2,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
}
STATE_SPACE = {
    "mamba_n_heads": 4,
    "mamba_d_head": 16,
    "mamba_d_state": 8,
    "mamba_n_groups": 2,
    "mamba_chunk_size": 4,
    "mamba_d_ssm": 64,
}
HALF = {"layer_types": ["linear_attention", "full_attention"] * 2}
SHARED = {"shared_expert_intermediate_size": 16, "shared_intermediate_size": 16, "n_routed_experts": 4}
# Families with states that cannot be cropped.
RECURRENT: dict[str, dict[str, Any]] = {
    "bamba": {**STATE_SPACE, "attn_layer_indices": [1, 3]},
    "falcon_h1": STATE_SPACE,
    "falcon_mamba": {"state_size": 8},
    "granitemoehybrid": {**STATE_SPACE, **EXPERTS, **HALF, **SHARED},
    "jamba": {
        "mamba_d_state": 8,
        "attn_layer_period": 2,
        "attn_layer_offset": 1,
        "num_experts": 2,
        "num_experts_per_tok": 1,
    },
    "mamba": {"state_size": 8},
    "mamba2": {"num_heads": 4, "head_dim": 16, "state_size": 8, "n_groups": 2, "chunk_size": 4},
    "nemotron_h": {
        "mamba_num_heads": 4,
        "mamba_head_dim": 16,
        "ssm_state_size": 8,
        "n_groups": 2,
        "chunk_size": 4,
        "layer_types": ["linear_attention", "full_attention", "moe", "mlp"],
        "moe_shared_expert_intermediate_size": 16,
        **EXPERTS,
        **SHARED,
    },
    "olmo_hybrid": DELTA,
    "qwen3_5_moe_text": {**DELTA, **EXPERTS, **SHARED},
    "qwen3_5_text": DELTA,
    "qwen3_next": {**DELTA, **EXPERTS, **SHARED},
    "zamba": {
        "mamba_d_state": 8,
        "n_mamba_heads": 2,
        "mamba_dt_rank": 4,
        "layer_types": ["linear_attention", "hybrid"] * 2,
        "attention_hidden_size": 64,
        "attention_head_dim": 16,
    },
}
# Those that have most between them: windows, soft caps, sinks, experts, short convolutions, learned positions.
FEW = ["gemma2", "gemma3_text", "gpt2", "gpt_oss", "lfm2", "llama"]
NEEDS_EAGER = {"gemma2", "gpt_oss"}  # soft-capped scores, sinks


@functools.cache
def _original(family: str, seed: int, dtype: torch.dtype, sizes: tuple[tuple[str, int], ...]) -> Any:
    settings = {**COMMON, **{**FAMILIES, **RECURRENT}[family], **dict(sizes)}
    if family in ("gpt2", "gpt_neox", "opt"):  # their heads are not grouped
        settings = {key: value for key, value in settings.items() if key not in ("head_dim", "num_key_value_heads")}
    config = CONFIG_MAPPING[family](**settings)
    config._experts_implementation = "eager"  # the grouped kernels know no float64
    torch.manual_seed(seed)
    return AutoModelForCausalLM.from_config(config).to(dtype).eval().requires_grad_(False)


def tiny_model(family: str = "llama", seed: int = 0, dtype: torch.dtype = torch.float64, **sizes: int) -> Any:
    """Return a fresh copy of a tiny random model; the same arguments give the same weights. sizes: config entries."""
    return copy.deepcopy(_original(family, seed, dtype, tuple(sorted(sizes.items()))))


def attention_for(family: str) -> str:
    """Return the attention backend that can compute a family's scores."""
    return "eager" if family in NEEDS_EAGER else "sdpa"
