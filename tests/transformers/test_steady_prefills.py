"""Steady prefills are refused in one sentence where a prompt's tokens would not get the bits that they get alone."""

from __future__ import annotations

import pytest
import torch
from support.families import tiny_model

from orthrus import BuildError
from orthrus_attention.sdpa import SdpaAttention
from orthrus_attention.split_kv import SplitAttention
from orthrus_caches.dynamic import DynamicCache
from orthrus_transformers.model.pass_state import PassState
from orthrus_transformers.model.steady_prefills import check_steady
from orthrus_transformers.target import TransformersTarget


def test_a_target_that_cannot_have_them_is_not_built() -> None:
    model = tiny_model("llama")
    with pytest.raises(BuildError, match=r"target.steady_prefills: it is for bfloat16 on a GPU, not float\d+ on cpu"):
        TransformersTarget(model, None, DynamicCache(), SdpaAttention(), steady_prefills=True)


@pytest.mark.parametrize(
    ("form", "attention", "size", "reason"),
    [
        ("own", SplitAttention(), 32, "needs fused layers, which models of type 'llama' do not have here"),
        ("fused", SdpaAttention(), 32, "needs an attention whose bits are steady, as split, not SdpaAttention"),
        ("fused", SplitAttention(), 36, "needs sizes that are multiples of 32"),
        ("fused", SplitAttention(), 32, None),
    ],
)
def test_what_is_missing_is_named(form: str, attention: object, size: int, reason: str | None) -> None:
    class Layer(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.self_attn, self.orthrus_fused = torch.nn.Linear(size, 64), {}

    class Model(torch.nn.Module):
        device, dtype = torch.device("cuda"), torch.bfloat16
        config = tiny_model("llama").config

        def __init__(self) -> None:
            super().__init__()
            self.layer = Layer()

    state = PassState(attention, torch.bfloat16, steady_prefills=True)  # type: ignore[arg-type]
    if reason is None:
        check_steady(state, Model(), "fused")
        return
    with pytest.raises(BuildError, match=f"target.steady_prefills: it {reason}.*; leave it out"):
        check_steady(state, Model(), form)  # type: ignore[arg-type]
