"""Windows that only transformers' masks have: they are kept, and a window that no layer has is refused."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from support.building import BACKENDS, assert_lossless, decode_with
from support.families import COMMON, FAMILIES, tiny_model
from transformers import CONFIG_MAPPING, AutoModelForCausalLM

from orthrus import BuildError, Stop
from orthrus.testing import greedy
from orthrus_caches.dynamic import DynamicCache
from orthrus_drafters.none import NoDrafter
from orthrus_transformers.model.mask_windows import windows_in_masks
from orthrus_transformers.target import TransformersTarget

WINDOW = 16  # longer than the text of the check at loading, which would see a shorter one
EXPERTS = {"num_experts": 4, "num_local_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
MASKED: dict[str, dict[str, Any]] = {
    "qwen2_moe": {**EXPERTS, "shared_expert_intermediate_size": 16, "max_window_layers": 4},
    "phimoe": EXPERTS,
}


def model_of(family: str, **more: Any) -> Any:
    settings = {
        key: value
        for key, value in {**COMMON, "sliding_window": WINDOW, **MASKED.get(family, {}), **more}.items()
        if key != "head_dim"
    }
    torch.manual_seed(0)
    config = CONFIG_MAPPING[family](**settings)
    config._experts_implementation = "eager"
    return AutoModelForCausalLM.from_config(config).double().eval().requires_grad_(False)


def target_of(model: Any) -> TransformersTarget:
    return TransformersTarget(model, None, DynamicCache(), BACKENDS["sdpa"]())


@pytest.mark.parametrize("family", MASKED)
def test_text_beyond_the_window_is_transformers_own(family: str) -> None:
    own, prompts = model_of(family), [[(7 * index) % 37 + 3 for index in range(3 * WINDOW)], [5]]
    answers = [
        greedy(lambda ids: own(torch.tensor([ids]), use_cache=False).logits[0, -1], p, Stop(12)) for p in prompts
    ]
    assert_lossless(decode_with(target_of(model_of(family)), NoDrafter(), prompts, Stop(12)), answers)


def test_without_the_masks_windows_that_text_is_another(monkeypatch: pytest.MonkeyPatch) -> None:
    prompt = [(7 * index) % 37 + 3 for index in range(3 * WINDOW)]
    right = decode_with(target_of(model_of("phimoe")), NoDrafter(), [prompt], Stop(12))
    monkeypatch.setattr("orthrus_transformers.model.self_check.windows_in_masks", lambda model: {})
    wrong = decode_with(target_of(model_of("phimoe")), NoDrafter(), [prompt], Stop(12))
    assert right[0].token_ids != wrong[0].token_ids


@pytest.mark.parametrize("family", MASKED)
def test_every_layer_gets_the_window_of_its_mask(family: str) -> None:
    model = model_of(family)
    kinds = getattr(model.config, "layer_types", None) or ["sliding_attention"] * 4
    windows = {layer: WINDOW for layer, kind in enumerate(kinds) if kind == "sliding_attention"}
    assert windows and windows_in_masks(model) == windows
    assert model.config.sliding_window == WINDOW  # as it was


@pytest.mark.parametrize("family", FAMILIES)
def test_other_families_tell_their_attention(family: str) -> None:
    assert windows_in_masks(tiny_model(family)) == {}


def test_a_window_that_no_layer_has_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def look(*unused: Any) -> Iterator[Any]:
        return iter(())

    monkeypatch.setattr("orthrus_transformers.model.mask_windows.seen_layers", look)
    with pytest.raises(BuildError, match=f"model type 'phimoe' has sliding_window={WINDOW}, of which no layer is told"):
        windows_in_masks(model_of("phimoe"))


def test_a_mask_of_another_kind_is_refused() -> None:
    with pytest.raises(BuildError, match="model type 'doge' has in layer 0 a mask that is neither causal nor a window"):
        target_of(model_of("doge"))
