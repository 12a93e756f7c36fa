"""Names of tensors: those of GGUF by those of transformers, for each architecture that is read.

A GGUF tensor `blk.3.attn_q.weight` has a stem, `attn_q`, which stands for a module of the layer; `.weight` and `.bias`
are the same in both. Source: the converter's tables in the package `gguf`.
"""

from __future__ import annotations

from collections.abc import Mapping

KINDS = ("weight", "bias")
ENDS = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
ATTENTION = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
}
HEAD_NORMS = {"attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm"}
NORMS = {"attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm"}
FOUR_NORMS = {
    "attn_norm": "input_layernorm",
    "post_attention_norm": "post_attention_layernorm",
    "ffn_norm": "pre_feedforward_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm",
}
MLP = {"ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj"}
DENSE = {**ATTENTION, **NORMS, **MLP}
EXPERTS = {"ffn_gate_inp": "mlp.gate"}  # the experts themselves are joined: see `weights`
SHARED_EXPERT = {
    "ffn_gate_inp_shexp": "mlp.shared_expert_gate",
    "ffn_gate_shexp": "mlp.shared_expert.gate_proj",
    "ffn_up_shexp": "mlp.shared_expert.up_proj",
    "ffn_down_shexp": "mlp.shared_expert.down_proj",
}

LAYERS: Mapping[str, Mapping[str, str]] = {
    "llama": DENSE,
    "mixtral": {**ATTENTION, **NORMS, **EXPERTS},
    "qwen2": DENSE,
    "qwen3": {**DENSE, **HEAD_NORMS},
    "qwen2moe": {**ATTENTION, **NORMS, **EXPERTS, **SHARED_EXPERT},
    "qwen3moe": {**ATTENTION, **HEAD_NORMS, **NORMS, **EXPERTS},
    "gemma": DENSE,
    "gemma2": {**ATTENTION, **FOUR_NORMS, **MLP},
    "gemma3": {**ATTENTION, **HEAD_NORMS, **FOUR_NORMS, **MLP},
    "phi3": {
        **NORMS,
        "attn_qkv": "self_attn.qkv_proj",
        "attn_output": "self_attn.o_proj",
        "ffn_up": "mlp.gate_up_proj",
        "ffn_down": "mlp.down_proj",
    },
    "starcoder2": {**ATTENTION, **NORMS, "ffn_up": "mlp.c_fc", "ffn_down": "mlp.c_proj"},
    "stablelm": DENSE,
    "nemotron": {**ATTENTION, **NORMS, "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj"},
    "gpt2": {
        "attn_norm": "ln_1",
        "attn_qkv": "attn.c_attn",
        "attn_output": "attn.c_proj",
        "ffn_norm": "ln_2",
        "ffn_up": "mlp.c_fc",
        "ffn_down": "mlp.c_proj",
    },
    "lfm2": {
        "attn_norm": "operator_norm",
        "attn_q": "self_attn.q_proj",
        "attn_k": "self_attn.k_proj",
        "attn_v": "self_attn.v_proj",
        "attn_output": "self_attn.out_proj",
        "attn_q_norm": "self_attn.q_layernorm",
        "attn_k_norm": "self_attn.k_layernorm",
        "ffn_norm": "ffn_norm",
        "ffn_gate": "feed_forward.w1",
        "ffn_up": "feed_forward.w3",
        "ffn_down": "feed_forward.w2",
        "shortconv.in_proj": "conv.in_proj",
        "shortconv.conv": "conv.conv",
        "shortconv.out_proj": "conv.out_proj",
    },
    "gpt-oss": {
        **ATTENTION,
        "attn_norm": "input_layernorm",
        "post_attention_norm": "post_attention_layernorm",
        "ffn_gate_inp": "mlp.router",
    },
}
OUTSIDE: Mapping[str, Mapping[str, str]] = {
    "gpt2": {
        "token_embd": "transformer.wte",
        "position_embd": "transformer.wpe",
        "output_norm": "transformer.ln_f",
        "output": "lm_head",
    },
    "lfm2": {"token_embd": "model.embed_tokens", "token_embd_norm": "model.embedding_norm", "output": "lm_head"},
}


def transformers_name(architecture: str, name: str) -> str | None:
    """Return transformers' name of a GGUF tensor that is the same tensor there; None if it has none."""
    stem, _, kind = name.rpartition(".")
    if kind not in KINDS:
        return None
    outside = OUTSIDE.get(architecture, ENDS).get(stem)
    if outside is not None:
        return f"{outside}.{kind}"
    block, _, rest = stem.partition(".")
    layer, _, module = rest.partition(".")
    inside = LAYERS[architecture].get(module)
    if block != "blk" or not layer.isdigit() or inside is None:
        return None
    layers = "transformer.h" if architecture == "gpt2" else "model.layers"
    return f"{layers}.{layer}.{inside}.{kind}"
