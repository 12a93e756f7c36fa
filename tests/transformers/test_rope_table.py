"""Angles of rotary positions that are looked up are those that the model computes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from support.families import CONTEXT, tiny_model
from support.longrope import ORIGINAL, longrope_model
from torch import Tensor

from orthrus import MaskDescription
from orthrus_attention.sdpa import SdpaAttention
from orthrus_transformers.model import rope_table
from orthrus_transformers.model.attention_hook import attach
from orthrus_transformers.model.context_length import max_length
from orthrus_transformers.model.pass_state import Form, PassState
from orthrus_transformers.model.rope_table import look_up_angles

POSITIONS = torch.tensor([[0, 1, 2, 7], [90, 91, 92, CONTEXT - 1]])
MASK = MaskDescription("causal", POSITIONS, POSITIONS[:, 0], CONTEXT)


def looked_up(model: Any, form: Form = "fused", positions: int | None = CONTEXT) -> tuple[bool, tuple[Tensor, Tensor]]:
    state = PassState(SdpaAttention(), model.dtype)
    attach(model, state)
    done = look_up_angles(model, positions)
    with state.run(MASK, form=form):
        return done, model.model.rotary_emb(torch.zeros(2, 4, 32, dtype=model.dtype), position_ids=POSITIONS)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("family", ["llama", "mistral", "qwen2", "qwen3"])
def test_a_table_holds_what_the_model_computes(family: str, dtype: torch.dtype) -> None:
    own = tiny_model(family, dtype=dtype).model.rotary_emb(torch.zeros(2, 4, 32, dtype=dtype), position_ids=POSITIONS)
    done, angles = looked_up(tiny_model(family, dtype=dtype))
    assert done
    for angle, two in zip(angles, own, strict=True):  # a CPU's vectors and their rests differ in the last bit
        torch.testing.assert_close(angle, two, rtol=1e-2 if dtype == torch.bfloat16 else 1e-6, atol=1e-6)
    assert not torch.allclose(angles[0][0], angles[0][1])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_table_of_two_sets_of_angles_holds_the_first(dtype: torch.dtype) -> None:
    model, own = (longrope_model("llama").to(dtype) for _ in range(2))
    state = PassState(SdpaAttention(), dtype)
    attach(model, state)
    assert look_up_angles(model, max_length(model))
    hidden, every = torch.zeros(1, 1, 32, dtype=dtype), torch.arange(ORIGINAL)[None]
    with state.run(MASK, form="fused"):
        angles = model.model.rotary_emb(hidden, position_ids=every)
    assert all(map(torch.equal, angles, own.model.rotary_emb(hidden, position_ids=every)))
    beyond = own.model.rotary_emb(hidden, position_ids=torch.arange(ORIGINAL + 1)[None])
    assert not torch.allclose(angles[0], beyond[0][:, :ORIGINAL], rtol=0.1)


def test_the_models_own_passes_compute_them(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*args: object) -> Tensor:
        raise AssertionError("looked up")

    monkeypatch.setattr(rope_table, "angles", none)
    looked_up(tiny_model("llama"), form="own")
    with pytest.raises(AssertionError, match="looked up"):
        looked_up(tiny_model("llama"))


def test_what_cannot_be_in_a_table_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not looked_up(tiny_model("llama"), positions=None)[0]
    growing = tiny_model("llama")
    growing.model.rotary_emb.rope_type = "dynamic"
    assert not look_up_angles(growing, CONTEXT)
    assert not look_up_angles(tiny_model("gpt2"), CONTEXT)
    monkeypatch.setattr(
        rope_table, "MOST_BYTES", 2 * CONTEXT * 8 * 8 - 1
    )  # cosines and sines of 8 dimensions in float64
    assert not looked_up(tiny_model("llama"))[0]
    monkeypatch.setattr(rope_table, "MOST_BYTES", 2 * CONTEXT * 8 * 8)
    assert looked_up(tiny_model("llama"))[0]
