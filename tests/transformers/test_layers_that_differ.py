"""Models whose layers differ: heads of two sizes, layers that share keys, keys that are the values. Gemma 3n and 4."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from support.building import BACKENDS, assert_lossless, decode_with
from support.families import COMMON
from support.thorough import thorough_but
from transformers import CONFIG_MAPPING, AutoModelForCausalLM

import orthrus
from orthrus import Stop
from orthrus.testing import greedy
from orthrus_caches.dynamic import DynamicCache
from orthrus_caches.static import StaticCache
from orthrus_drafters.prompt_lookup import PromptLookup
from orthrus_transformers.model.pass_facts import slot_values
from orthrus_transformers.target import TransformersTarget

WINDOW = 8
ALTERNATING = ["sliding_attention", "full_attention"] * 2
GEMMA = {"vocab_size_per_layer_input": 40, "hidden_size_per_layer_input": 8, "layer_types": ALTERNATING}
GEMMA_4 = {**GEMMA, "global_head_dim": 8}
GEMMA_3N = {**GEMMA, "altup_num_inputs": 2, "laurel_rank": 4, "activation_sparsity_pattern": [0.0] * 4}
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "two sizes": ("gemma4_text", {**GEMMA_4, "global_head_dim": 16}),
    "shared keys": ("gemma4_text", {**GEMMA_4, "num_kv_shared_layers": 2}),
    "two sizes, shared": ("gemma4_text", {**GEMMA_4, "global_head_dim": 16, "num_kv_shared_layers": 2}),
    "keys are values": ("gemma4_text", {**GEMMA_4, "attention_k_eq_v": True, "num_global_key_value_heads": 1}),
    "shared keys, 3n": ("gemma3n_text", {**GEMMA_3N, "num_kv_shared_layers": 2}),
}
MODELS = {name: (family, sizes) for name, (family, sizes) in MODELS.items() if family in CONFIG_MAPPING}
PROMPTS = [[5, 6, 7], [(7 * index) % 37 + 3 for index in range(3 * WINDOW)]]


def model_of(name: str) -> Any:
    family, sizes = MODELS[name]
    config = CONFIG_MAPPING[family](**{**COMMON, "sliding_window": WINDOW, **sizes})
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config).double().eval().requires_grad_(False)


CACHES = [(name, cache) for name in MODELS for cache in (DynamicCache, StaticCache)]
# Each model once; over a static cache the one whose layers differ most.
EVERY_RUN = [(name, cache) for name, cache in CACHES if (cache is StaticCache) == (name == "two sizes, shared")]


@pytest.mark.parametrize(("name", "cache"), thorough_but(EVERY_RUN, CACHES))
def test_text_is_transformers_own(name: str, cache: Any) -> None:
    own, stop = model_of(name), Stop(12)
    answers = [greedy(lambda ids: own(torch.tensor([ids]), use_cache=False).logits[0, -1], p, stop) for p in PROMPTS]
    target = TransformersTarget(model_of(name), None, cache(), BACKENDS["sdpa"](), prefill_chunk=5)
    drafter = PromptLookup(min_ngram=1, length=4)
    assert_lossless(decode_with(target, drafter, PROMPTS, stop), answers)
    assert target.pass_bytes([5]) > target.pass_bytes([4])


@pytest.mark.parametrize("name", thorough_but([name for name in MODELS if name.startswith("shared")], MODELS))
def test_their_files_load(name: str, tmp_path: Path) -> None:
    model_of(name).float().save_pretrained(tmp_path)
    target = {"name": "transformers", "source": str(tmp_path), "device": "cpu"}
    parts = {"attention": {"name": "sdpa"}, "cache": {"name": "dynamic"}, "drafter": {"name": "none"}}
    decoder = orthrus.load({"target": target, **parts, "stop": {"max_new_tokens": 4}})
    assert len(decoder.generate([PROMPTS[0]])[0].token_ids) == 4


def test_what_a_pass_reads_is_counted_layer_by_layer() -> None:
    model = model_of("two sizes")
    sizes = [layer.self_attn.k_proj.out_features + layer.self_attn.v_proj.out_features for layer in model.model.layers]
    assert len(set(sizes)) == 2
    assert slot_values(model.config, 4) == sizes
