"""Families that cannot be decoded are refused in a sentence, whatever their own code raises; the hub is silent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from support.building import BACKENDS
from support.families import tiny_model
from support.thorough import thorough_but
from transformers import CONFIG_MAPPING, AutoModelForCausalLM

from orthrus import BuildError
from orthrus_caches.dynamic import DynamicCache
from orthrus_transformers.loading.sources import HubSource
from orthrus_transformers.target import TransformersTarget

SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "vocab_size": 64,
    "max_position_embeddings": 64,
}
SENTENCES = {
    "bloom": "computes attention in a way that cannot be exchanged",
    "minimax": "has layers of type linear_attention, which a rejected draft cannot be taken back from",
    "rwkv": "computes attention in a way that cannot be exchanged",
}


def target_of(model: Any) -> TransformersTarget:
    return TransformersTarget(model, None, DynamicCache(), BACKENDS["eager"]())


@pytest.mark.parametrize("family", thorough_but(["bloom"], SENTENCES))
def test_a_family_that_cannot_be_decoded_is_named(family: str) -> None:
    model = AutoModelForCausalLM.from_config(CONFIG_MAPPING[family](**SIZES), dtype=torch.float32).eval()
    with pytest.raises(BuildError, match=f"model type '{family}' {SENTENCES[family]}"):
        target_of(model)


def test_what_a_familys_own_code_raises_is_part_of_the_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model()

    def foreign(*given: Any, **how: Any) -> Any:
        raise RuntimeError("The size of tensor a (8) must match the size of tensor b (64)")

    monkeypatch.setattr(model.model.layers[1], "forward", foreign)
    with pytest.raises(
        BuildError, match=r"model type 'llama' does not run over Orthrus's cache and attention \(.*size"
    ):
        target_of(model)


def test_the_hubs_own_bars_are_never_drawn(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from huggingface_hub.utils import are_progress_bars_disabled

    drawn: list[bool] = []

    def download(*given: Any, **how: Any) -> str:
        drawn.append(not are_progress_bars_disabled())
        return str(tmp_path)

    before = are_progress_bars_disabled()
    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    assert HubSource("owner/name").fetch() == tmp_path
    assert drawn == [False] and are_progress_bars_disabled() == before
