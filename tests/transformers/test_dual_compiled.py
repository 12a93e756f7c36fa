"""The layers of training's two passes are compiled once for each pass, however many layers there are."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import pytest
import torch
from support.families import tiny_model
from support.views import random_view
from torch import Tensor

from orthrus import MaskedBlocks, PackedRows
from orthrus_attention.sdpa import SdpaAttention
from orthrus_caches.dynamic import DynamicCache
from orthrus_transformers.target import TransformersTarget

ROWS = PackedRows(torch.arange(26).view(2, 13) % 11, torch.tensor([[0] * 13, [0] * 5 + [5] * 8]))
BLOCKS = MaskedBlocks(torch.tensor([[2, 7], [3, 8]]), 4, 3)
PASSES = 2  # over rows, over blocks
Found = tuple[int, list[Tensor]]

pytestmark = pytest.mark.thorough  # torch compiles


def trained_gradients(family: str, layers: int, compiled: bool, lengths: Sequence[int] = (13,)) -> Found:
    """Take two steps of both passes a length; return how many graphs were compiled, and the gradients of the view."""
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    model = tiny_model(family, num_hidden_layers=layers)
    target = TransformersTarget(model, None, DynamicCache(), SdpaAttention())
    random_view(target, "view")
    passes = target.dual_pass("view", flex=False, compiled=compiled)
    for length in [*lengths, *lengths]:
        rows = PackedRows(ROWS.token_ids[:, :length], ROWS.starts[:, :length])
        passes.committed(rows)
        passes.drafted(rows, BLOCKS).square().sum().backward()
    gradients = [weight.grad for weight in target.view_weights("view").values() if weight.grad is not None]
    passes.close()
    return torch._dynamo.utils.counters["stats"]["unique_graphs"], gradients


@pytest.mark.parametrize("family", ["mistral", "qwen3"])  # with a window, with norms of heads
def test_layers_of_training_are_compiled_once_for_all(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="aot_eager"))  # no kernels: quicker
    for layers in (2, 5):
        graphs, gradients = trained_gradients(family, layers, compiled=True)
        assert graphs == PASSES
        graphs, wanted = trained_gradients(family, layers, compiled=False)
        assert graphs == 0 and len(gradients) == len(wanted) > 0
        for gradient, plain in zip(gradients, wanted, strict=True):
            torch.testing.assert_close(gradient, plain, rtol=1e-9, atol=1e-12)


def test_blocks_without_gradients_are_compiled_once_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="aot_eager"))
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    target = TransformersTarget(tiny_model("llama", num_hidden_layers=4), None, DynamicCache(), SdpaAttention())
    random_view(target, "view")
    passes = target.dual_pass("view", flex=False, compiled=True)
    with torch.no_grad():
        for _ in range(2):
            passes.committed(ROWS)
            assert not passes.drafted(ROWS, BLOCKS).requires_grad
    passes.close()
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == PASSES


def test_every_shape_of_rows_is_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="eager"))
    lengths = range(9, 14)  # ten forms, where torch stops at eight
    graphs, _ = trained_gradients("llama", 1, compiled=True, lengths=lengths)
    assert graphs == PASSES * len(lengths)
