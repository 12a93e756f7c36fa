"""On a CUDA device: the GPU's library makes products where its bits are those of the kernels for few tokens."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from orthrus.kernels import skinny_linear, wide_products
from orthrus.kernels.normed import unnormed

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
EPSILON = 1e-6


def drawn(*shape: int) -> Tensor:
    return torch.randn(shape, device="cuda").bfloat16() / 8


def layer_parts(width: int, tokens: int) -> dict[str, Tensor]:
    """Return what the products of a layer leave of the first tokens of a pass."""
    torch.manual_seed(width)
    weights = drawn(width, 2 * width), drawn(4 * width, width), drawn(2 * width, width)
    norm, residual, seen = drawn(width), drawn(1, 1024, width), drawn(1, 1024, 2 * width)
    residual, seen = residual[:, :tokens].clone(), seen[:, :tokens].clone()
    normed = skinny_linear.linear_added(seen, weights[0], residual, norm)
    squares = normed.parts.view(normed.count, -1)[:, :tokens].t()[None]
    inner, joined = (
        skinny_linear.gated(normed, weights[1], EPSILON),
        skinny_linear.linear(normed, weights[2], None, EPSILON),
    )
    plain = skinny_linear.linear(unnormed(seen), weights[0], None, 0.0)
    values = residual, normed.gained, squares, inner, joined, plain
    return dict(zip(("residual", "gained", "squares", "inner", "joined", "plain"), values, strict=True))


@pytest.mark.parametrize("width", [1152, 2048, 4096])
@pytest.mark.parametrize("tokens", [65, 100, 512, 1000])
def test_tokens_get_the_bits_that_few_get(width: int, tokens: int) -> None:
    few = layer_parts(width, 16)
    for name, many in layer_parts(width, tokens).items():
        assert torch.equal(many[:, :16], few[name]), name


def test_the_library_makes_products_of_many_tokens() -> None:
    """Else the test above compares a kernel with itself."""
    sums = wide_products.sums(drawn(1, 512, 4096), drawn(6144, 4096), skinny_linear.unrounded)
    assert sums is not None
    assert sums.dtype == torch.float32


@pytest.mark.parametrize(("tokens", "inputs", "gap"), [(64, 4096, 0), (512, 1024, 0), (512, 4160, 0), (512, 4096, 8)])
def test_others_are_left_to_the_kernels(tokens: int, inputs: int, gap: int) -> None:
    """Few tokens, small models, sizes that are no multiples of 128, and tensors that do not lie at a round address."""
    numbers = drawn(tokens * inputs + gap)[gap:].view(1, tokens, inputs)
    assert wide_products.sums(numbers, drawn(2048, inputs), skinny_linear.unrounded) is None


def test_a_sum_that_is_split_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def split(left: Tensor, right: Tensor, **settings: Any) -> Tensor:
        half = left.shape[1] // 2
        return whole(left[:, :half], right[:half], **settings) + whole(left[:, half:], right[half:], **settings)

    whole = torch.mm
    monkeypatch.setattr(torch, "mm", split)
    assert wide_products.sums(drawn(1, 515, 4096), drawn(2048, 4096), skinny_linear.unrounded) is None
