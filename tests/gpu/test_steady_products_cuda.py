"""On a CUDA device: whichever tile a product of a layer is made by, its bits are those of the smallest one."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from orthrus.kernels import skinny_linear
from orthrus.kernels.tiles import MANY, Tile, tile

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
SMALLEST = Tile(16, 16, 128, 2, 6)
TILES = [Tile(32, 16, 128, 4, 6), Tile(32, 32, 128, 4, 5), Tile(64, 128, 64, 8, 6), *MANY]
EPSILON = 1e-6
EVERY = [(width, layout) for width in (256, 4096) for layout in TILES]
UNEVEN = [(width, layout) for width in (288, 1056) for layout in TILES if layout.tokens <= 32]  # others are not used


def drawn(*shape: int) -> Tensor:
    return torch.randn(shape, device="cuda").bfloat16() / 8


def made(width: int, tokens: int, layout: Tile, monkeypatch: pytest.MonkeyPatch) -> dict[str, Tensor]:
    """Return what a product, its sums of squares, and those behind its norm are by a tile."""
    torch.manual_seed(width)
    monkeypatch.setattr(skinny_linear, "tile", lambda *given, **named: layout)
    residual, seen, norm = drawn(1, tokens, width), drawn(1, tokens, 2 * width), drawn(width)
    normed = skinny_linear.linear_added(seen, drawn(width, 2 * width), residual, norm)
    parts = normed.parts.view(normed.count, -1)[:, :tokens].contiguous()
    inner = skinny_linear.gated(normed, drawn(4 * width, width), EPSILON)
    joined = skinny_linear.linear(normed, drawn(2 * width, width), drawn(2 * width), EPSILON)
    return {"residual": residual, "gained": normed.gained, "squares": parts, "inner": inner, "joined": joined}


@pytest.mark.parametrize(
    ("width", "layout"),
    [*EVERY, *UNEVEN],
    ids=lambda value: str(value) if isinstance(value, int) else f"{value.tokens}x{value.columns}w{value.warps}",
)
def test_a_tile_changes_no_bit(width: int, layout: Tile, monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = 70
    wanted = made(width, tokens, SMALLEST, monkeypatch)
    for name, got in made(width, tokens, layout, monkeypatch).items():
        assert torch.equal(got, wanted[name]), name


@pytest.mark.parametrize("tokens", [1, 40, 300])
def test_squares_are_those_of_the_residual(tokens: int, monkeypatch: pytest.MonkeyPatch) -> None:
    given = made(1024, tokens, tile(tokens, 1024, 1024), monkeypatch)
    squares = given["residual"][0].float().square().view(tokens, -1, 16).sum(2).t()
    torch.testing.assert_close(given["squares"], squares)


def test_other_products_round_otherwise() -> None:
    """The tests above can fail: where a sum is made of two, its bits are others."""
    torch.manual_seed(0)
    hidden, weight = drawn(1, 64, 4096), drawn(512, 4096)
    whole: Callable[[Tensor, Tensor], Tensor] = skinny_linear.project
    halves = whole(hidden[..., :2048], weight[:, :2048].contiguous())
    halves = halves + whole(hidden[..., 2048:], weight[:, 2048:].contiguous())
    assert not torch.equal(halves, whole(hidden, weight))
