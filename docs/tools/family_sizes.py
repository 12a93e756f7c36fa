"""Sizes with which the causal language models of transformers are made tiny: of most, and what some need besides."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

VOCABULARY = 40
CONTEXT = 96
LARGEST = 100_000_000  # parameters of what counts as tiny

# Keys of configs, each of which is used where a family knows it.
SIZES: Mapping[str, Any] = {
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
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": None,
    "sliding_window": 8,
    "ffn_dim": 32,
    "decoder_ffn_dim": 32,
    "encoder_ffn_dim": 32,
    "decoder_layers": 4,
    "encoder_layers": 2,
    "decoder_attention_heads": 4,
    "encoder_attention_heads": 4,
    # experts
    "num_experts": 4,
    "num_local_experts": 4,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 16,
    "vocab_size_per_layer_input": VOCABULARY,
    "hidden_size_per_layer_input": 8,
    "shared_expert_intermediate_size": 16,
    "shared_intermediate_size": 16,
    "moe_shared_expert_intermediate_size": 16,
    "n_group": 1,
    "topk_group": 1,
    # latent attention
    "q_lora_rank": 16,
    "kv_lora_rank": 16,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 8,
    "v_head_dim": 8,
    # recurrent layers
    "linear_num_value_heads": 4,
    "linear_num_key_heads": 2,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "state_size": 8,
    "ssm_state_size": 8,
    "mamba_n_heads": 4,
    "mamba_d_head": 16,
    "mamba_d_state": 8,
    "mamba_n_groups": 2,
    "mamba_chunk_size": 4,
    "mamba_d_ssm": 64,
    "mamba_num_heads": 4,
    "mamba_head_dim": 16,
}
HALF = ["linear_attention", "full_attention"] * 2
HYBRID = ["linear_attention", "hybrid"] * 2
# Families of encoders, which are causal where they are told to be decoders.
DECODERS = (
    *(
        "bert",
        "bert-generation",
        "big_bird",
        "camembert",
        "data2vec-text",
        "electra",
        "ernie",
        "megatron-bert",
        "reformer",
    ),
    *("rembert", "roberta", "roberta-prelayernorm", "roc_bert", "roformer", "xlm-roberta", "xlm-roberta-xl", "xmod"),
)
# What families need besides; None: the key is left out.
BESIDES: Mapping[str, Mapping[str, Any]] = {
    "bamba": {"attn_layer_indices": [1, 3]},
    "codegen": {"rotary_dim": 8},
    "dots1": {"n_shared_experts": 1, "first_k_dense_replace": 1},
    "falcon": {"head_dim": None},
    "gemma3n_text": {"num_kv_shared_layers": 0},
    "gemma4_assistant": {"hidden_size_per_layer_input": 0},
    "gptj": {"rotary_dim": 8},
    "gpt_neo": {"attention_types": [[["global", "local"], 2]]},
    "granitemoehybrid": {"layer_types": HALF},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1, "num_experts": 2, "num_experts_per_tok": 1},
    "kimi_linear": {"layer_types": HALF},
    "bailing_hybrid": {"layer_types": HALF},
    "lfm2": {"layer_types": ["conv", "full_attention"] * 2, "block_auto_adjust_ff_dim": False},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"] * 2, "num_dense_layers": 1},
    "mamba2": {"num_heads": 4, "head_dim": 16, "n_groups": 2, "chunk_size": 4},
    "nemotron_h": {"n_groups": 2, "chunk_size": 4, "layer_types": ["linear_attention", "full_attention", "moe", "mlp"]},
    "opt": {"word_embed_proj_dim": 32},
    "moshi": {"audio_vocab_size": VOCABULARY},
    "qwen4_exp": {},
    "qwen4_exp_text": {
        "indexer_n_heads": 2,
        "indexer_kv_heads": 1,
        "indexer_head_dim": 8,
        "indexer_budget": 16,
        "indexer_compress_ratio": 1,
        "hc_lowrank": 8,
    },
    "reformer": {"is_decoder": True, "axial_pos_embds": False, "attn_layers": ["local", "local"]},
    "xlnet": {"d_head": 8},
    "zaya": {"num_experts_per_tok": 1},
    "zamba": {
        "n_mamba_heads": 2,
        "mamba_dt_rank": 4,
        "layer_types": HYBRID,
        "attention_hidden_size": 64,
        "attention_head_dim": 16,
    },
    "zamba2": {
        "n_mamba_heads": 4,
        "mamba_headdim": 16,
        "mamba_ngroups": 2,
        "chunk_size": 4,
        "layer_types": HYBRID,
        "hybrid_layer_ids": [1, 3],
        "num_mem_blocks": 1,
        "adapter_rank": 4,
        "attention_hidden_size": 64,
        "attention_head_dim": 16,
    },
}


def tiny_settings(config_class: Any, family: str) -> dict[str, Any]:
    """Return what a family's config is made with; those of its parts, such as a text model's, are in it."""
    known = {field.name for field in dataclasses.fields(config_class)} | set(config_class.attribute_map)
    settings = {key: value for key, value in SIZES.items() if key in known}
    if "kv_lora_rank" in known:
        settings["num_key_value_heads"] = SIZES["num_attention_heads"]  # latent attention has a key for each query
    if family in DECODERS:
        settings["is_decoder"] = True
    for name, part in _parts(config_class):
        settings[name] = {"model_type": part.model_type, **tiny_settings(part, part.model_type)}
    settings |= BESIDES.get(family, {})
    return {key: value for key, value in settings.items() if value is not None or key == "eos_token_id"}


def _parts(config_class: Any) -> Iterator[tuple[str, Any]]:
    """Yield the configs that a config is made of, as those of a text model and of a vision model: name and class."""
    names = getattr(config_class, "sub_configs", {})
    whole = config_class() if names else None
    for name in names:
        part = type(getattr(whole, name, None))
        if dataclasses.is_dataclass(part):
            yield name, part
