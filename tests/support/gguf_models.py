"""Tiny models as GGUF files, written as llama.cpp's converter writes them, in float32: the weights are the original's.

Names of tensors come from the package `gguf`, so that they are not those of the reader under test.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from torch import Tensor
from transformers import CONFIG_MAPPING, AutoModelForCausalLM
from transformers.convert_slow_tokenizer import bytes_to_unicode

CONTEXT = 512
END, TURN = 256, 257
MERGES = ["t h", "i n", "Ġ th", "th e", "Ġ Ġ", "ĠĠ ĠĠ", "1 2", "12 3", "Ċ Ċ", "Ġ 1", "e r", "l l", "' s", "' ll", "a n"]
BYTE_LETTERS = [bytes_to_unicode()[byte] for byte in range(256)]
BYTE_TOKENS = [*BYTE_LETTERS, "<|end|>", "<|turn|>", *(merge.replace(" ", "") for merge in MERGES)]
BYTE_TOKENS += [f"[PAD{index}]" for index in range(len(BYTE_TOKENS), 276)]
WORDS = ["▁", "t", "h", "e", "▁t", "th", "▁th", "▁the", "i", "n", "in", "▁▁", "1", "2", "12", "▁1", "a", "an", "▁an"]
PIECES = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *WORDS]

SIZES = {
    "vocab_size": len(BYTE_TOKENS),
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": CONTEXT,
    "initializer_range": 0.3,
    "tie_word_embeddings": False,
    "pad_token_id": None,
    "bos_token_id": None,
    "eos_token_id": None,
}
EXPERTS = {"num_experts": 4, "num_local_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
DEFAULT = {"rope_type": "default", "rope_theta": 10000.0}
Keys = dict[str, Any]


@dataclass(frozen=True)
class Family:
    """One model to write: its architecture in GGUF, transformers' model type and settings, and keys beside the common.

    norms_plus_one: the file's norms are the weights plus 1. permuted: rotated pairs of q and k lie side by side.
    """

    architecture: str
    model_type: str
    settings: Keys = field(default_factory=dict)
    keys: Keys = field(default_factory=dict)
    norms_plus_one: bool = False
    permuted: bool = False
    named: str = ""  # architecture in gguf's tables of names, where it is another


def _window(size: int) -> Keys:
    return {"attention.sliding_window": size}


LLAMA3 = {"rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, "low_freq_factor": 1.0}
LLAMA3 |= {"high_freq_factor": 4.0, "original_max_position_embeddings": 64}
YARN = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 128}
YARN_KEYS = {"rope.scaling.type": "yarn", "rope.scaling.factor": 4.0, "rope.scaling.original_context_length": 128}
LOCAL = {"sliding_attention": DEFAULT, "full_attention": {**DEFAULT, "rope_theta": 1e6}}
SHORT, LONG = [1.0 + 0.1 * index for index in range(8)], [1.5 + 0.5 * index for index in range(8)]

FAMILIES: dict[str, Family] = {
    "llama": Family("llama", "llama", permuted=True),
    "llama, factors": Family("llama", "llama", {"rope_parameters": LLAMA3}, permuted=True),
    "llama, biases": Family("llama", "llama", {"attention_bias": True}, permuted=True),
    "llama, linear": Family(
        "llama",
        "llama",
        {"rope_parameters": {"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0}},
        {"rope.scaling.type": "linear", "rope.scaling.factor": 4.0},
        permuted=True,
    ),
    "mixtral": Family("llama", "mixtral", {**EXPERTS, "sliding_window": None}, permuted=True),
    "qwen2": Family("qwen2", "qwen2", {"use_sliding_window": False}),
    "qwen2, yarn": Family("qwen2", "qwen2", {"use_sliding_window": False, "rope_parameters": YARN}, YARN_KEYS),
    "qwen3": Family("qwen3", "qwen3", {"use_sliding_window": False, "head_dim": 32}),
    "qwen2_moe": Family(
        "qwen2moe", "qwen2_moe", {**EXPERTS, "shared_expert_intermediate_size": 48, "use_sliding_window": False}
    ),
    "qwen3_moe": Family("qwen3moe", "qwen3_moe", {**EXPERTS, "norm_topk_prob": True, "use_sliding_window": False}),
    "phi3": Family("phi3", "phi3", {"sliding_window": None, "resid_pdrop": 0.0}),
    "phi3, window": Family("phi3", "phi3", {"sliding_window": 16}, _window(16)),
    "phi3, longrope": Family(
        "phi3",
        "phi3",
        {
            "sliding_window": None,
            "original_max_position_embeddings": 256,
            "rope_parameters": {
                "rope_type": "longrope",
                "rope_theta": 10000.0,
                "short_factor": SHORT,
                "long_factor": LONG,
                "original_max_position_embeddings": 256,
            },
        },
        {"rope.scaling.original_context_length": 256, "rope.scaling.attn_factor": (1 + 1 / 8) ** 0.5},
    ),
    "starcoder2": Family("starcoder2", "starcoder2", {"sliding_window": None, "rope_parameters": DEFAULT}),
    "stablelm": Family(
        "stablelm", "stablelm", {"use_qkv_bias": True, "rope_parameters": {**DEFAULT, "partial_rotary_factor": 0.25}}
    ),
    "nemotron": Family(
        "nemotron",
        "nemotron",
        {"rope_parameters": {**DEFAULT, "partial_rotary_factor": 0.5}},
        norms_plus_one=True,
    ),
    "gpt2": Family("gpt2", "gpt2", {"n_positions": CONTEXT, "n_embd": 64, "n_layer": 2, "n_head": 4, "n_inner": 96}),
    "gemma": Family("gemma", "gemma", {"tie_word_embeddings": True}, norms_plus_one=True),
    "gemma2": Family(
        "gemma2",
        "gemma2",
        {"sliding_window": 16, "query_pre_attn_scalar": 16, "tie_word_embeddings": True},
        {**_window(16), "attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0},
        norms_plus_one=True,
    ),
    "gemma3": Family(
        "gemma3",
        "gemma3_text",
        {
            "sliding_window": 16,
            "query_pre_attn_scalar": 16,
            "num_hidden_layers": 7,
            "layer_types": ["sliding_attention"] * 5 + ["full_attention", "sliding_attention"],
            "rope_parameters": LOCAL,
        },
        {**_window(16), "rope.freq_base": 1e6},
        norms_plus_one=True,
    ),
    "lfm2": Family(
        "lfm2",
        "lfm2",
        {"layer_types": ["conv", "full_attention"], "block_auto_adjust_ff_dim": False, "conv_L_cache": 3},
        {"attention.head_count_kv": [0, 2], "shortconv.l_cache": 3},
    ),
    "gpt_oss": Family(
        "gpt-oss",
        "gpt_oss",
        {**EXPERTS, "sliding_window": 16, "rope_parameters": DEFAULT},
        {**_window(16), "expert_feed_forward_length": 96},
    ),
}
LONGER_LAYER_NORM = {"starcoder2": "norm_epsilon", "stablelm": "layer_norm_eps", "nemotron": "norm_eps"}


@functools.cache
def original(name: str) -> Any:
    """Return the model itself, in float32; biases and norms are random, too."""
    family = FAMILIES[name]
    settings = {**SIZES, **family.settings}
    if family.model_type == "gpt2":
        settings = {key: value for key, value in settings.items() if key not in ("head_dim", "num_key_value_heads")}
    torch.manual_seed(3)
    model = AutoModelForCausalLM.from_config(CONFIG_MAPPING[family.model_type](**settings)).eval().requires_grad_(False)
    for parameter_name, weight in model.named_parameters():
        if weight.dim() == 1:
            weight.normal_(0.0 if parameter_name.endswith("bias") or family.norms_plus_one else 1.0, 0.2)
    return model


def write_model(
    path: Path, name: str, vocabulary: Callable[[gguf.GGUFWriter], None] | None = None, **more: Any
) -> Path:
    """Write a family's model; more: keys by their name without the architecture, None to leave one out."""
    family, model = FAMILIES[name], original(name)
    writer = gguf.GGUFWriter(path, family.architecture)
    for key, value in {**_keys(family, model.config), **family.keys, **more}.items():
        if value is not None:
            _add(writer, f"{family.architecture}.{key}", value)
    (vocabulary or byte_level)(writer)
    for tensor_name, values in tensors(family, model):
        writer.add_tensor(tensor_name, np.ascontiguousarray(values.float().numpy()))
    if name == "llama, factors":
        unscaled = 10000.0 ** -(torch.arange(0, 16, 2).double() / 16)
        writer.add_tensor("rope_freqs.weight", (unscaled / model.model.rotary_emb.inv_freq.double()).float().numpy())
    if name == "phi3, longrope":
        writer.add_tensor("rope_factors_long.weight", np.asarray(LONG, dtype=np.float32))
        writer.add_tensor("rope_factors_short.weight", np.asarray(SHORT, dtype=np.float32))
    return finish(writer, path)


def finish(writer: gguf.GGUFWriter, path: Path) -> Path:
    """Write what was added, and return the path."""
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def byte_level(writer: gguf.GGUFWriter, pre: str = "gpt-2", count: int = len(BYTE_TOKENS), **ids: int) -> None:
    """Add a byte-level vocabulary; ids: of special tokens, by their role."""
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(BYTE_TOKENS[:count])
    kinds = [1] * 256 + [3, 3] + [1] * len(MERGES)
    writer.add_token_types(kinds + [5] * (len(BYTE_TOKENS) - len(kinds)))
    writer.add_token_merges(MERGES[: max(0, count - 258)])
    writer.add_add_bos_token(False)
    for role, id in {"eos": END, "bos": END, **ids}.items():
        writer.add_uint32(f"tokenizer.ggml.{role}_token_id", id)


def sentencepiece(writer: gguf.GGUFWriter, prefix: bool = True) -> None:
    """Add a vocabulary of pieces with scores, which is shorter than the models' is."""
    padded = [*PIECES, *(f"<unused{index}>" for index in range(len(BYTE_TOKENS) - len(PIECES)))]
    writer.add_tokenizer_model("llama")
    writer.add_token_list(padded[: len(BYTE_TOKENS)])
    scores = [0.0] * 259 + [-float(len(WORDS) - len(word) * 3 + index) for index, word in enumerate(WORDS)]
    writer.add_token_scores((scores + [-1000.0] * len(BYTE_TOKENS))[: len(BYTE_TOKENS)])
    kinds = [2, 3, 3] + [6] * 256 + [1] * len(WORDS)
    writer.add_token_types((kinds + [5] * len(BYTE_TOKENS))[: len(BYTE_TOKENS)])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_add_bos_token(True)
    writer.add_add_space_prefix(prefix)


def _add(writer: gguf.GGUFWriter, key: str, value: Any) -> None:
    kinds = {str: writer.add_string, bool: writer.add_bool, int: writer.add_uint32, float: writer.add_float32}
    kinds.get(type(value), writer.add_array)(key, value)


def _keys(family: Family, config: Any) -> Keys:
    heads = getattr(config, "num_key_value_heads", config.num_attention_heads)
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    rope = getattr(config, "rope_parameters", None) or {}
    keys: Keys = {
        "context_length": CONTEXT,
        "block_count": config.num_hidden_layers,
        "embedding_length": config.hidden_size,
        "feed_forward_length": 96,
        "attention.head_count": config.num_attention_heads,
        "attention.head_count_kv": heads,
        "attention.key_length": size,
        "attention.value_length": size,
        "rope.dimension_count": int(size * rope.get("partial_rotary_factor", 1)),
        "rope.freq_base": float(rope.get("rope_theta", 10000.0)),
        "vocab_size": len(BYTE_TOKENS),
    }
    if family.model_type in LONGER_LAYER_NORM or family.model_type == "gpt2":
        keys["attention.layer_norm_epsilon"] = float(
            getattr(config, LONGER_LAYER_NORM.get(family.model_type, "layer_norm_epsilon"))
        )
    else:
        keys["attention.layer_norm_rms_epsilon"] = float(getattr(config, "rms_norm_eps", 1e-5) or 1e-5)
    if family.model_type == "gpt2":
        keys = {
            key: value for key, value in keys.items() if not key.startswith(("rope", "attention.key", "attention.v"))
        }
    if family.model_type == "lfm2":
        keys["attention.layer_norm_rms_epsilon"] = float(config.norm_eps)
    if "num_experts_per_tok" in family.settings:
        keys |= {"expert_count": 4, "expert_used_count": 2}
        if family.model_type != "mixtral":
            keys["expert_feed_forward_length"] = 32
    if family.model_type == "qwen2_moe":
        keys["expert_shared_feed_forward_length"] = 48
    if family.model_type == "stablelm":
        keys["use_parallel_residual"] = True
    return keys


def tensors(family: Family, model: Any) -> Iterator[tuple[str, Tensor]]:
    """Yield a model's weights by their names in GGUF, as the converter changes them."""
    architecture = next(key for key, name in gguf.MODEL_ARCH_NAMES.items() if name == family.architecture)
    names = gguf.get_tensor_name_map(architecture, model.config.num_hidden_layers)
    for name, weight in model.state_dict().items():
        if name == "lm_head.weight" and model.config.tie_word_embeddings:
            continue
        if ".experts." in name or name.endswith(".sinks"):
            yield from _experts(name, weight, family)
            continue
        stem, kind = name.rsplit(".", 1)
        if name == "lm_head.weight":
            yield "output.weight", weight
            continue
        gguf_name = names.get_name(stem)
        assert gguf_name is not None, name
        yield f"{gguf_name}.{kind}", _converted(name, weight, family, model.config)


def _converted(name: str, weight: Tensor, family: Family, config: Any) -> Tensor:
    if family.permuted and ".q_proj." in name:
        return _permuted(weight, config.num_attention_heads)
    if family.permuted and ".k_proj." in name:
        return _permuted(weight, config.num_key_value_heads)
    if family.norms_plus_one and "norm" in name and name.endswith("weight"):
        return weight + 1
    if family.model_type == "gpt2" and name.endswith(("c_attn.weight", "c_proj.weight", "c_fc.weight")):
        return weight.t()
    if name.endswith("conv.conv.weight"):
        return weight.squeeze(1)
    return weight[0] if name.endswith("shared_expert_gate.weight") else weight


def _permuted(weight: Tensor, heads: int) -> Tensor:
    return weight.reshape(heads, 2, -1, *weight.shape[1:]).swapaxes(1, 2).reshape(weight.shape)


def _experts(name: str, weight: Tensor, family: Family) -> Iterator[tuple[str, Tensor]]:
    block = f"blk.{name.split('.')[2]}"
    if name.endswith(".sinks"):
        yield f"{block}.attn_sinks.weight", weight
        return
    kind = "bias" if name.endswith("_bias") else "weight"
    if family.model_type == "gpt_oss":
        weight = weight.transpose(1, 2) if kind == "weight" else weight
        parts = {"gate": weight[:, ::2], "up": weight[:, 1::2]} if "gate_up" in name else {"down": weight}
    else:
        parts = (
            dict(zip(("gate", "up"), weight.chunk(2, dim=1), strict=True)) if "gate_up" in name else {"down": weight}
        )
    for part, values in parts.items():
        yield f"{block}.ffn_{part}_exps.{kind}", values


@torch.no_grad()
def greedy(model: Any, prompt: Sequence[int], count: int) -> list[int]:
    """Return the model's own greedy tokens: no cache, transformers' own attention."""
    tokens = list(prompt)
    for _ in range(count):
        tokens.append(int(model(torch.tensor([tokens]), use_cache=False).logits[0, -1].argmax()))
    return tokens[len(prompt) :]


def texts(count: int, seed: int = 0) -> list[str]:
    """Return texts with what tokenizers disagree about: digits, blanks, lines, contractions, signs, scripts."""
    words = (
        "the The in thing I'll I'LL it's don't 123 1 12345678 4.50 ... ?! (x) /path a_b x=1; a1b2 HTTPServer # ## 's"
    )
    foreign = "é Größe naïve привет 日本語 かな 한국어 العربية १२३ 🙂 “q” — Ⅷ ²"
    blanks = [" ", "  ", "   ", "\n", "\n\n", "\n \n", "\t", "\r\n", " 's"]
    pieces = [*words.split(), *foreign.split(), *blanks]
    chance = random.Random(seed)
    return [
        "".join(chance.choice(pieces) + chance.choice(["", " "]) for _ in range(chance.randint(1, 9)))
        for _ in range(count)
    ]
