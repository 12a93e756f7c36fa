"""Steady prefills are refused in one sentence where a prompt's tokens would not get the bits that they get alone."""

from __future__ import annotations

import pytest
import torch
from support.families import tiny_model

from orthrus import AttentionBackend, BuildError
from orthrus_attention.sdpa import SdpaAttention
from orthrus_attention.split_kv import SplitAttention
from orthrus_caches.dynamic import DynamicCache
from orthrus_transformers.model import steady_prefills
from orthrus_transformers.model.pass_state import Form, PassState
from orthrus_transformers.model.steady_prefills import check_steady
from orthrus_transformers.target import TransformersTarget


def test_a_target_that_cannot_have_them_is_not_built() -> None:
    model = tiny_model("llama")
    with pytest.raises(BuildError, match=r"target.steady_prefills: it is for bfloat16 on a GPU, not float\d+ on cpu"):
        TransformersTarget(model, None, DynamicCache(), SdpaAttention(), steady_prefills=True)


class Layer(torch.nn.Module):
    """What is looked at of a fused layer."""

    def __init__(self, size: int, head_size: int) -> None:
        super().__init__()
        self.self_attn, self.orthrus_fused = torch.nn.Linear(size, 256), {}
        self.self_attn.head_dim = head_size  # type: ignore[assignment]


class Model(torch.nn.Module):
    """A model that says that it is on a GPU, and its output head."""

    device, dtype = torch.device("cuda"), torch.bfloat16
    config = tiny_model("llama").config

    def __init__(self, size: int = 384, head_size: int = 96, words: int = 640, bias: bool = False) -> None:
        super().__init__()
        self.layer, self.head = Layer(size, head_size), torch.nn.Linear(size, words, bias)

    def get_output_embeddings(self) -> torch.nn.Module:
        return self.head


def check(model: Model, form: Form = "fused", attention: AttentionBackend | None = None) -> None:
    check_steady(PassState(attention or SplitAttention(), torch.bfloat16, steady_prefills=True), model, form)


def test_what_has_all_is_taken() -> None:
    check(Model())


@pytest.mark.parametrize(
    ("form", "attention", "reason"),
    [
        ("own", SplitAttention(), "needs fused layers, which models of type 'llama' do not have here"),
        ("fused", SdpaAttention(), "needs an attention whose bits are steady, as split, not SdpaAttention"),
    ],
)
def test_what_is_missing_is_named(form: Form, attention: AttentionBackend, reason: str) -> None:
    with pytest.raises(BuildError, match=f"target.steady_prefills: it {reason}; leave it out"):
        check(Model(), form, attention)


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (Model(size=576), "needs sizes that are multiples of 128, which this model's layers do not have"),
        (Model(head_size=80), "needs heads whose size is a multiple of 32, not 80"),
        (Model(words=1000), "needs a vocabulary that is a multiple of 128, not of 1000 tokens"),
        (Model(bias=True), "needs an output head that is a linear layer without bias and hooks"),
    ],
    ids=["size", "head size", "vocabulary", "bias"],
)
def test_a_model_that_the_kernels_do_not_take_is_refused(model: Model, reason: str) -> None:
    with pytest.raises(BuildError, match=f"target.steady_prefills: it {reason}; leave it out"):
        check(model)


def test_a_model_that_ranks_share_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steady_prefills, "group_of", lambda model: object())
    with pytest.raises(BuildError, match="it is for a model on one GPU, as sums over several round by the size of a"):
        check(Model())
