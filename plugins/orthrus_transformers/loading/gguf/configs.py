"""Configs of GGUF files, as transformers has them: one function a kind of architecture.

Everything that a file says of the model's shape is set, also where it is the config class's default.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from orthrus import BuildError
from orthrus_transformers.loading.gguf.file import GgufFile
from orthrus_transformers.loading.gguf.positions import rope_parameters

SOFTMAX = 1  # of `expert_gating_func`
GEMMA2_LARGE, GEMMA3_LARGE = 46, 62  # layers of the models that scale scores by hidden size, not by head size
GEMMA3_LOCAL_BASE = 10000.0  # of layers with a window, which no file names
GPT_OSS_LIMIT = 7.0


def family_of(file: GgufFile) -> str:
    """Return how the file's tensors are named and its config is made; raise BuildError for what is not read."""
    name = file.architecture
    if name == "llama" and file.own("expert_count", 0):
        return "mixtral"
    if name not in CONFIGS:
        raise BuildError(
            f"'{file.path}' is of the architecture '{name}', which is not read from GGUF files; read are"
            f" {', '.join(sorted(set(CONFIGS) - {'mixtral'}))}; the model's safetensors may load"
        )
    return name


def read_config(file: GgufFile, family: str) -> dict[str, Any]:
    """Return the settings of transformers' config, with `model_type`.

    Raises BuildError for a key that is missing, contradicts another, or cannot be expressed.
    """
    settings = CONFIGS[family](file)
    rows = file.shape("token_embd.weight")[0] if "token_embd.weight" in file.tensor_names else 0
    said = file.own("vocab_size", rows)
    if said != rows:
        raise BuildError(
            f"'{file.path}' contradicts itself: {file.architecture}.vocab_size={said}, and token_embd.weight has"
            f" {rows} rows"
        )
    if file.own("attention.causal", True) is not True:
        raise BuildError(f"'{file.path}' is no causal model: {file.architecture}.attention.causal is false")
    tokens = file.take("tokenizer.ggml.tokens") or ()
    if tokens and len(tokens) != rows:
        raise BuildError(
            f"'{file.path}' contradicts itself: it has {len(tokens)} tokens (tokenizer.ggml.tokens), and"
            f" token_embd.weight has {rows} rows"
        )
    return {**settings, "vocab_size": rows, "tie_word_embeddings": "output.weight" not in file.tensor_names}


def _heads(file: GgufFile) -> dict[str, Any]:
    """Return what most configs name alike: sizes, heads and context."""
    count = file.whole("attention.head_count", least=1)
    hidden = file.whole("embedding_length", least=1)
    size = file.whole("attention.key_length", hidden // count, least=1)
    values = file.whole("attention.value_length", size)
    if values != size:
        raise BuildError(
            f"'{file.path}' has keys of {size} and values of {values} numbers a head"
            f" ({file.architecture}.attention.key_length, value_length), which transformers' config cannot say"
        )
    return {
        "hidden_size": hidden,
        "num_hidden_layers": file.whole("block_count", least=1),
        "num_attention_heads": count,
        "num_key_value_heads": int(_alike(file, "attention.head_count_kv", count)),
        "head_dim": size,
        "max_position_embeddings": file.whole("context_length", least=1),
    }


def _alike(file: GgufFile, key: str, default: Any = None) -> Any:
    """Return a key's value; of a list, which has one for each layer, the one that all layers have."""
    value = file.own(key, default)
    if not isinstance(value, list):
        return value
    if len(set(value)) != 1:
        raise BuildError(
            f"the layers of '{file.path}' differ in {file.architecture}.{key}={value}, which is not read for this"
            " architecture"
        )
    return value[0]


def _rope(file: GgufFile, settings: Mapping[str, Any], partial: bool = False) -> dict[str, Any]:
    return {"rope_parameters": rope_parameters(file, settings["head_dim"], partial)}


def _has(file: GgufFile, *stems: str, kind: str = "bias") -> bool:
    """Return whether any layer has a tensor of one of these stems."""
    return any(name.endswith(f".{stem}.{kind}") for name in file.tensor_names for stem in stems)


def _attention_bias(file: GgufFile) -> bool:
    return _has(file, "attn_q", "attn_k", "attn_v", "attn_output")


def _rms(file: GgufFile) -> float:
    return file.real("attention.layer_norm_rms_epsilon")


def _dense(model_type: str, file: GgufFile) -> dict[str, Any]:
    settings = {"model_type": model_type, **_heads(file), "rms_norm_eps": _rms(file)}
    settings["intermediate_size"] = int(_alike(file, "feed_forward_length"))
    return settings | _rope(file, settings)


def _llama(file: GgufFile) -> dict[str, Any]:
    settings = _dense("llama", file)
    window = file.whole("attention.sliding_window", 0)
    biased = _attention_bias(file)
    if window:  # only mistral has one
        if biased:
            raise BuildError(f"'{file.path}' has both a window and biases, which no model of transformers has")
        return settings | {"model_type": "mistral", "sliding_window": int(window)}
    return settings | {"attention_bias": biased, "mlp_bias": _has(file, "ffn_gate", "ffn_up", "ffn_down")}


def _mixtral(file: GgufFile) -> dict[str, Any]:
    experts = _expert_counts(file, "num_local_experts")
    return _dense("mixtral", file) | experts | {"sliding_window": file.whole("attention.sliding_window", 0) or None}


def _qwen2(file: GgufFile) -> dict[str, Any]:
    return _dense("qwen2", file) | _no_window(file)


def _no_window(file: GgufFile) -> dict[str, Any]:
    """Return that no layer has a window; raise BuildError for a file that names one.

    Which layers of qwen models have it is in `max_window_layers`, which GGUF files do not carry.
    """
    if window := file.whole("attention.sliding_window", 0):
        raise BuildError(
            f"'{file.path}' has {file.architecture}.attention.sliding_window={window}, and nothing says which of its"
            " layers have that window; the model's safetensors may load"
        )
    return {"use_sliding_window": False, "sliding_window": None}


def _qwen3(file: GgufFile) -> dict[str, Any]:
    return _dense("qwen3", file) | {"attention_bias": _attention_bias(file)} | _no_window(file)


def _expert_counts(file: GgufFile, count: str) -> dict[str, Any]:
    gating = file.own("expert_gating_func", SOFTMAX)
    scale = file.own("expert_weights_scale", 0.0)
    if gating not in (0, SOFTMAX) or scale not in (0.0, 1.0):
        raise BuildError(
            f"'{file.path}' weighs experts by expert_gating_func={gating}, expert_weights_scale={scale}, which this"
            " architecture's config cannot say"
        )
    return {count: file.whole("expert_count", least=1), "num_experts_per_tok": file.whole("expert_used_count", least=1)}


def _moe(file: GgufFile, model_type: str, normed: bool) -> dict[str, Any]:
    experts = _expert_counts(file, "num_experts")
    settings = {"model_type": model_type, **_heads(file), "rms_norm_eps": _rms(file), **experts}
    dense = int(_alike(file, "feed_forward_length", 0))
    each = int(file.whole("expert_feed_forward_length", 0) or dense // experts["num_experts_per_tok"])
    said = file.own("expert_weights_norm", normed)
    settings |= {"intermediate_size": dense or each, "moe_intermediate_size": each, "norm_topk_prob": bool(said)}
    return settings | _rope(file, settings)


def _qwen2moe(file: GgufFile) -> dict[str, Any]:
    shared = file.whole("expert_shared_feed_forward_length", 0) or file.whole("feed_forward_length")
    file.own("expert_shared_count")  # one shared expert, of that size
    return _moe(file, "qwen2_moe", False) | {"shared_expert_intermediate_size": shared} | _no_window(file)


def _qwen3moe(file: GgufFile) -> dict[str, Any]:
    return _moe(file, "qwen3_moe", True) | {"attention_bias": _attention_bias(file)} | _no_window(file)


def _gemma(file: GgufFile) -> dict[str, Any]:
    return _dense("gemma", file) | {"attention_bias": _attention_bias(file)} | _gelu("hidden_act")


def _gelu(name: str) -> dict[str, Any]:
    return {name: "gelu_pytorch_tanh"}


def _gemma2(file: GgufFile) -> dict[str, Any]:
    settings = _dense("gemma2", file) | _gelu("hidden_activation")
    settings |= _query_scale(settings, GEMMA2_LARGE)
    return settings | {
        "attention_bias": _attention_bias(file),
        "sliding_window": file.whole("attention.sliding_window", 4096),
        "attn_logit_softcapping": file.real("attn_logit_softcapping", 50.0),
        "final_logit_softcapping": file.real("final_logit_softcapping", 30.0),
    }


def _query_scale(settings: Mapping[str, Any], large: int) -> dict[str, Any]:
    by_hidden = settings["hidden_size"] // settings["num_attention_heads"]
    return {"query_pre_attn_scalar": by_hidden if settings["num_hidden_layers"] == large else settings["head_dim"]}


def _gemma3(file: GgufFile) -> dict[str, Any]:
    settings = _dense("gemma3_text", file) | _gelu("hidden_activation")
    settings |= _query_scale(settings, GEMMA3_LARGE)
    local = {"rope_type": "default", "rope_theta": file.real("rope.freq_base_swa", GEMMA3_LOCAL_BASE)}
    window = file.whole("attention.sliding_window", least=1)
    kinds = _kinds(file.own("attention.sliding_window_pattern", 6), settings["num_hidden_layers"], file)
    return settings | {
        "attention_bias": _attention_bias(file),
        "sliding_window": window,
        "layer_types": kinds,
        "final_logit_softcapping": file.own("final_logit_softcapping"),
        "attn_logit_softcapping": file.own("attn_logit_softcapping"),
        "rope_parameters": {"sliding_attention": local, "full_attention": settings["rope_parameters"]},
    }


def _kinds(pattern: Any, layers: int, file: GgufFile) -> list[str]:
    """Return each layer's kind: of a number every so many sees all keys, of a list those that are false."""
    if isinstance(pattern, list) and len(pattern) == layers:
        return ["sliding_attention" if windowed else "full_attention" for windowed in pattern]
    if isinstance(pattern, int) and pattern > 0:
        return ["sliding_attention" if (layer + 1) % pattern else "full_attention" for layer in range(layers)]
    raise BuildError(
        f"'{file.path}' has {file.architecture}.attention.sliding_window_pattern={pattern}, which is not read"
    )


def _layers(settings: Mapping[str, Any]) -> int:
    return int(settings["num_hidden_layers"])


def _phi3(file: GgufFile) -> dict[str, Any]:
    settings = {"model_type": "phi3", **_heads(file), "rms_norm_eps": _rms(file)}
    settings["intermediate_size"] = file.whole("feed_forward_length", least=1)
    settings |= _rope(file, settings, partial=True)
    rope = settings["rope_parameters"]
    original = rope.get("original_max_position_embeddings", file.own("rope.scaling.original_context_length"))
    return settings | {
        "original_max_position_embeddings": int(original or settings["max_position_embeddings"]),
        "sliding_window": file.whole("attention.sliding_window", 0) or None,
        "partial_rotary_factor": rope["partial_rotary_factor"],
    }


def _starcoder2(file: GgufFile) -> dict[str, Any]:
    settings = {"model_type": "starcoder2", **_heads(file), "norm_epsilon": file.real("attention.layer_norm_epsilon")}
    settings["intermediate_size"] = file.whole("feed_forward_length", least=1)
    return settings | _rope(file, settings) | {"sliding_window": file.whole("attention.sliding_window", 0) or None}


def _stablelm(file: GgufFile) -> dict[str, Any]:
    settings = {"model_type": "stablelm", **_heads(file), "layer_norm_eps": file.real("attention.layer_norm_epsilon")}
    settings["intermediate_size"] = file.whole("feed_forward_length", least=1)
    settings |= _rope(file, settings, partial=True)
    file.own("use_parallel_residual")  # llama.cpp goes by the second norm, too
    return settings | {
        "use_qkv_bias": _has(file, "attn_q", "attn_k", "attn_v"),
        "qk_layernorm": _has(file, "attn_q_norm", "attn_k_norm", kind="weight"),
        "use_parallel_residual": not _has(file, "ffn_norm", kind="weight"),
        "partial_rotary_factor": settings["rope_parameters"]["partial_rotary_factor"],
    }


def _nemotron(file: GgufFile) -> dict[str, Any]:
    settings = {"model_type": "nemotron", **_heads(file), "norm_eps": file.real("attention.layer_norm_epsilon")}
    settings["intermediate_size"] = file.whole("feed_forward_length", least=1)
    settings |= _rope(file, settings, partial=True)
    return settings | {
        "attention_bias": _attention_bias(file),
        "mlp_bias": _has(file, "ffn_up", "ffn_down"),
        "partial_rotary_factor": settings["rope_parameters"]["partial_rotary_factor"],
    }


def _gpt2(file: GgufFile) -> dict[str, Any]:
    heads = file.need("attention.head_count")
    if (grouped := file.own("attention.head_count_kv", heads)) != heads:
        raise BuildError(f"'{file.path}' groups the heads of gpt2 (head_count_kv={grouped}, head_count={heads})")
    return {
        "model_type": "gpt2",
        "n_positions": file.whole("context_length", least=1),
        "n_embd": file.whole("embedding_length", least=1),
        "n_layer": file.whole("block_count", least=1),
        "n_head": file.whole("attention.head_count", least=1),
        "n_inner": file.whole("feed_forward_length", least=1),
        "layer_norm_epsilon": file.real("attention.layer_norm_epsilon"),
    }


def _lfm2(file: GgufFile) -> dict[str, Any]:
    heads = file.need("attention.head_count_kv")
    if not isinstance(heads, list):
        raise BuildError(f"'{file.path}' has lfm2.attention.head_count_kv={heads}, and not a number for each layer")
    count, hidden = file.whole("attention.head_count", least=1), file.whole("embedding_length", least=1)
    for key in ("attention.key_length", "attention.value_length"):
        if (size := file.own(key, hidden // count)) != hidden // count:
            raise BuildError(f"'{file.path}' has lfm2.{key}={size}, which transformers' config cannot say")
    settings = {
        "model_type": "lfm2",
        "hidden_size": hidden,
        "num_hidden_layers": file.whole("block_count", least=1),
        "num_attention_heads": count,
        "num_key_value_heads": int(max(heads)),
        "head_dim": hidden // count,
        "max_position_embeddings": file.whole("context_length", least=1),
        "intermediate_size": int(_alike(file, "feed_forward_length")),
        "block_auto_adjust_ff_dim": False,  # that size is the final one
        "norm_eps": _rms(file),
        "layer_types": ["full_attention" if number else "conv" for number in heads],
        "conv_L_cache": file.whole("shortconv.l_cache", least=1),
        "conv_bias": _has(file, "shortconv.in_proj", "shortconv.conv", "shortconv.out_proj"),
    }
    settings |= _rope(file, settings)
    del settings["head_dim"]  # the config makes it
    return settings


def _gpt_oss(file: GgufFile) -> dict[str, Any]:
    settings = {"model_type": "gpt_oss", **_heads(file), "rms_norm_eps": _rms(file)}
    settings |= _expert_counts(file, "num_local_experts") | _rope(file, settings)
    if settings["rope_parameters"]["rope_type"] == "yarn":
        settings["rope_parameters"]["truncate"] = False  # as the released model has it
    file.own("feed_forward_length")
    kinds = ["full_attention" if layer % 2 else "sliding_attention" for layer in range(_layers(settings))]
    return settings | {
        "intermediate_size": file.whole("expert_feed_forward_length", least=1),
        "sliding_window": file.whole("attention.sliding_window", least=1),
        "layer_types": kinds,
        "attention_bias": True,
        "swiglu_limit": GPT_OSS_LIMIT,
    }


CONFIGS: Mapping[str, Callable[[GgufFile], dict[str, Any]]] = {
    "llama": _llama,
    "mixtral": _mixtral,
    "qwen2": _qwen2,
    "qwen3": _qwen3,
    "qwen2moe": _qwen2moe,
    "qwen3moe": _qwen3moe,
    "gemma": _gemma,
    "gemma2": _gemma2,
    "gemma3": _gemma3,
    "phi3": _phi3,
    "starcoder2": _starcoder2,
    "stablelm": _stablelm,
    "nemotron": _nemotron,
    "gpt2": _gpt2,
    "lfm2": _lfm2,
    "gpt-oss": _gpt_oss,
}
