"""On a GPU training computes the same gradients whichever way its masks are made: kernels, FlexAttention, dense."""

from __future__ import annotations

import pytest
import torch
from support.building import model_of
from support.families import tiny_model
from torch import Tensor

from orthrus import MaskedBlocks, PackedRows
from orthrus_attention.sdpa import SdpaAttention
from orthrus_caches.dynamic import DynamicCache
from orthrus_transformers.target import TransformersTarget
from orthrus_transformers.training import dual_pass

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
LENGTH, BLOCKS = 300, 16


def target_of(family: str, dtype: torch.dtype) -> TransformersTarget:
    """Return a target whose weights are what bfloat16 can hold, whatever dtype it computes in."""
    model = tiny_model(family, dtype=torch.float32, hidden_size=64, head_dim=16).bfloat16().to("cuda", dtype)
    target = TransformersTarget(model, None, DynamicCache(), SdpaAttention(), engine="eager")
    target.attach_view("view")
    generator = torch.Generator().manual_seed(1)
    for weight in target.view_weights("view").values():
        noise = torch.randn(weight.shape, generator=generator)
        weight.copy_((weight + 0.02 * noise.to(weight)).bfloat16())
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
    gradients_found = {
        name: weight.grad.double() for name, weight in target.view_weights("view").items() if weight.grad is not None
    }
    passes.close()
    return gradients_found


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the compiler's own, and a flag's
@pytest.mark.filterwarnings("ignore:TensorFloat32")  # its advice
@pytest.mark.parametrize(("family", "size", "kernels"), [("llama", 16, True), ("qwen3", 8, True), ("llama", 16, False)])
def test_gradients(family: str, size: int, kernels: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not kernels:
        monkeypatch.setattr("orthrus_transformers.training.triton_block_attention.fits", lambda *given: False)
    exact, single, rounded = (target_of(family, dtype) for dtype in (torch.float64, torch.float32, torch.bfloat16))
    assert type(model_of(exact).get_decoder()).__name__ in dual_pass.KNOWN_MODELS
    wanted = gradients(exact, size, flex=False)
    assert wanted.keys() == exact.view_weights("view").keys()
    # Dense masks in float32 are off by up to 4e-5 themselves (on a CPU); TensorFloat32 would be by thousands of that.
    dense, flexible = (distances(gradients(single, size, flex), wanted) for flex in (False, True))
    for name, distance in flexible.items():
        assert dense[name] < 1e-4, name
        assert distance < 10 * dense[name] + 1e-7, name
    # In bfloat16 no way is nearer to the truth than another by much: the noise is that of the whole model.
    dense, flexible = (distances(gradients(rounded, size, flex), wanted) for flex in (False, True))
    for name, distance in flexible.items():
        assert distance < 2 * dense[name] + 1e-3, name


def distances(measured: dict[str, Tensor], wanted: dict[str, Tensor]) -> dict[str, float]:
    """Return how far each gradient is from the one wanted, as a share of its norm."""
    assert measured.keys() == wanted.keys()
    return {name: float((measured[name] - gradient).norm() / gradient.norm()) for name, gradient in wanted.items()}
