"""On a GPU training computes the same gradients whichever way its masks are made: kernels, FlexAttention, dense."""

from __future__ import annotations

import pytest
import torch
from support.families import tiny_model
from torch import Tensor

from orthrus import MaskedBlocks, PackedRows
from orthrus_attention.sdpa import SdpaAttention
from orthrus_caches.dynamic import DynamicCache
from orthrus_transformers import dual_pass
from orthrus_transformers.target import TransformersTarget

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
LENGTH, BLOCKS = 300, 16
TOLERANCES = {torch.float32: 1e-4, torch.bfloat16: 0.1}  # of the norm: rounding of float32 sums, and of 8 bits


def target_of(family: str, dtype: torch.dtype) -> TransformersTarget:
    model = tiny_model(family, dtype=torch.float32, hidden_size=64, head_dim=16).to("cuda", dtype)
    target = TransformersTarget(model, None, DynamicCache(), SdpaAttention(), engine="eager")
    target.attach_view("view")
    generator = torch.Generator().manual_seed(1)
    for weight in target.view_weights("view").values():
        noise = torch.randn(weight.shape, generator=generator)
        weight.add_(noise.to(weight), alpha=0.02)
    return target


def gradients(target: TransformersTarget, size: int, flex: bool) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(2)
    starts = torch.zeros(2, LENGTH, dtype=torch.int64)
    starts[:, 90:], starts[1, 200:] = 90, 200
    anchors = torch.randint(LENGTH - size, (2, BLOCKS), generator=generator).sort(1).values
    rows = PackedRows(torch.randint(40, (2, LENGTH), generator=generator).cuda(), starts.cuda())
    passes = target.dual_pass("view", flex)
    passes.committed(rows)
    hidden = passes.drafted(rows, MaskedBlocks(anchors.cuda(), size, 3))
    hidden.backward(torch.randn(hidden.shape, generator=generator).to(hidden))
    found = {
        name: weight.grad.float() for name, weight in target.view_weights("view").items() if weight.grad is not None
    }
    passes.close()
    return found


@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
@pytest.mark.parametrize(("family", "size", "kernels"), [("llama", 16, True), ("qwen3", 8, True), ("llama", 16, False)])
def test_gradients(family: str, size: int, kernels: bool, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    target = target_of(family, dtype)
    if not kernels:
        monkeypatch.setattr("orthrus_transformers.triton_blocks.fits", lambda *given: False)
    assert type(target._model.get_decoder()).__name__ in dual_pass.KNOWN
    found, wanted = gradients(target, size, flex=True), gradients(target, size, flex=False)
    assert found.keys() == wanted.keys() == target.view_weights("view").keys()
    for name, gradient in found.items():
        apart = float((gradient - wanted[name]).norm() / wanted[name].norm())
        assert apart < TOLERANCES[dtype], f"{name}: {apart}"
