"""Keys of published config.json files that transformers does not read, and why that changes no token.

A key is known by its name, as another name of a key that is read (and then must agree with it), or by the only value
that changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Of transformers' loader and base class, of training and other programs; or a note of how the model was made.
WITHOUT_EFFECT = (
    "_*",
    "architectures",
    "auto_map",
    "cache_implementation",
    "custom_pipelines",
    "dtype",
    "fine_tuned_from",
    "finetuning_task",
    "is_llama_config",
    "license*",
    "max_sequence_length",
    "max_window_layers",  # where a family has no such window, or says it layer by layer
    "model_max_length",
    "model_type",
    "original_max_position_embeddings",  # stands with the rotary positions, which have it
    "prefix",
    "pretraining_tp",
    "quantization_config",
    "random_weights_seed",
    "rope_parameters",  # looked into by itself
    "rope_scaling",
    "rope_theta",
    "sliding_window_pattern",
    "task_specific_params",
    "tokenizer_class",
    "torch_dtype",
    "transformers.js_config",
    "transformers_version",
    "unsloth_*",
    "use_bfloat16",
    "use_flash_attn",
    "use_return_dict",
    "use_sliding_window",  # of a window that the family has anyway, or that is refused by its name
)
# By model type: another name of a key that is read.
ALIASES: Mapping[str, Mapping[str, str]] = {
    "cohere2": {"rotary_pct": "partial_rotary_factor"},
    "gemma": {"hidden_activation": "hidden_act"},
    "gemma2": {"hidden_act": "hidden_activation", "sliding_window_size": "sliding_window"},
    "gpt2": {"n_ctx": "n_positions"},
    "gpt_oss": {"experts_per_token": "num_experts_per_tok"},
    "lfm2": {
        "block_dim": "hidden_size",
        "block_norm_eps": "norm_eps",
        "num_heads": "num_attention_heads",
        "theta": "rope_theta",
    },
    "nemotron": {
        "ffn_hidden_size": "intermediate_size",
        "kv_channels": "head_dim",
        "num_query_groups": "num_key_value_heads",
        "rope_percent": "partial_rotary_factor",
        "rotary_percentage": "partial_rotary_factor",
    },
    "stablelm": {
        "norm_eps": "layer_norm_eps",
        "num_heads": "num_attention_heads",
        "rope_pct": "partial_rotary_factor",
    },
    "starcoder2": {"layer_norm_epsilon": "norm_epsilon"},
}
# By model type: the values with which a key changes nothing; none listed: any.
NEUTRAL: Mapping[str, Mapping[str, tuple[Any, ...]]] = {
    "cohere2": {
        "layer_switch": (),
        "order_of_interleaved_layers": ("local_attn_first",),
        "position_embedding_type": ("rope_gptj",),
        "use_embedding_sharing": (True,),
        "use_gated_activation": (True,),
        "use_parallel_block": (True,),
    },
    "gpt_oss": {"initial_context_length": (), "swiglu_limit": (7.0,)},  # which older transformers has in its code
    "lfm2": {
        "block_mlp_init_scale": (),
        "block_out_init_scale": (),
        "block_use_swiglu": (True,),
        "block_use_xavier_init": (),
        "conv_dim": (),
        "conv_dim_out": (),
        "conv_use_xavier_init": (),
        "full_attn_idxs": (),
        "use_pos_enc": (True,),
    },
    "llama": {"activation": ("swiglu", "silu")},
    "nemotron": {"norm_eps": (), "layer_norm_eps": ()},
    "phi3": {"full_attn_mod": (1,), "interpolate_factor": (1,)},
    "stablelm": {"rotary_scaling_factor": (1, 1.0)},
    "starcoder2": {
        "activation_function": (),
        "attention_softmax_in_fp32": (True,),
        "mlp_type": ("default",),
        "norm_type": ("layer_norm",),
        "scale_attention_softmax_in_fp32": (True,),
        "scale_attn_weights": (True,),
    },
}
# Of a released checkpoint with a view, which a drafter reads.
OF_A_VIEW = {"block_size", "mask_token_id"}
ROPE_KEYS = {
    "attention_factor",
    "beta_fast",
    "beta_slow",
    "factor",
    "finetuned",
    "high_freq_factor",
    "long_factor",
    "low_freq_factor",
    "mrope_interleaved",
    "mrope_section",
    "mscale",
    "mscale_all_dim",
    "original_max_position_embeddings",
    "partial_rotary_factor",
    "rope_theta",
    "rope_type",
    "short_factor",
    "truncate",
    "type",
}
