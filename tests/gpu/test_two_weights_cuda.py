"""On a CUDA device: projections by two weights leave what launches for each, over few tokens, leave: to the bit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from orthrus.kernels import skinny_linear, two_weights
from orthrus.kernels.normed import Normed, room_for_norm

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
DEVICE = "cuda"
EPSILON = 1e-5
FEW = 16  # tokens of the smallest tile
SLOTS = 256
SHAPES = {  # hidden size, heads, heads of keys, size of a head
    "smollm2-135m": (576, 9, 3, 64),
    "qwen3-1.7b": (2048, 16, 8, 128),
    "odd": (1088, 5, 1, 64),  # no multiples of 128: of up to 32 tokens
}
KINDS = [(6, 42), (1, 1), (8, 72), (9, 90), (15, 17), (33, 2)]  # tokens of each
CASES = [
    (shape, *kinds) for shape in SHAPES for kinds in KINDS if sum(kinds) <= (160, 96, 32)[list(SHAPES).index(shape)]
]
each_case = pytest.mark.parametrize(("shape", "first", "others"), CASES)


@dataclass(frozen=True, eq=False)
class Drawn:
    """A hidden state of both kinds of tokens, and what projects each."""

    shape: str
    first: int
    others: int

    def numbers(self, *size: int, seed: int = 0) -> Tensor:
        generator = torch.Generator(DEVICE).manual_seed(100 * seed + self.first)
        drawn = torch.randn(size, generator=generator, device=DEVICE) / (1 if len(size) == 3 else size[-1] ** 0.5)
        return drawn.bfloat16()

    @property
    def tokens(self) -> int:
        return self.first + self.others

    @property
    def kinds(self) -> tuple[slice, slice]:
        return slice(0, self.first), slice(self.first, self.tokens)

    def normed(self) -> Normed:
        width = SHAPES[self.shape][0]
        return skinny_linear.gain(self.numbers(1, self.tokens, width), 1 + self.numbers(width, seed=1))

    def weights(self, outputs: int, inputs: int) -> two_weights.Pair:
        return self.numbers(outputs, inputs, seed=2), self.numbers(outputs, inputs, seed=3)


def same(given: Tensor, wanted: Tensor) -> bool:
    return torch.equal(given, wanted) and bool(given.any())


def some_at_a_time(kind: slice) -> Iterator[slice]:
    """Yield the columns of a kind, so few that one launch with the smallest tile takes them."""
    for start in range(kind.start, kind.stop, FEW):
        yield slice(start, min(start + FEW, kind.stop))


@pytest.mark.parametrize("biased", [True, False])
@each_case
def test_a_projection(shape: str, first: int, others: int, biased: bool) -> None:
    drawn = Drawn(shape, first, others)
    normed, (width, every, few, size) = drawn.normed(), SHAPES[shape]
    outputs = (every + 2 * few) * size
    weights = drawn.weights(outputs, width)
    biases = (drawn.numbers(outputs, seed=4), drawn.numbers(outputs, seed=5)) if biased else (None, None)
    given = two_weights.linear(normed, first, weights, biases, EPSILON)
    for kind, weight, bias in zip(drawn.kinds, weights, biases, strict=True):
        for columns in some_at_a_time(kind):
            assert same(given[:, columns], skinny_linear.linear(normed.of(columns), weight, bias, EPSILON))


@each_case
def test_a_projection_to_heads_that_rotates(shape: str, first: int, others: int) -> None:
    drawn = Drawn(shape, first, others)
    normed, (width, every, few, size) = drawn.normed(), SHAPES[shape]
    weights = drawn.weights((every + 2 * few) * size, width)
    angles = torch.rand(2, 1, drawn.tokens, size, device=DEVICE).bfloat16()
    slots = torch.randperm(SLOTS, device=DEVICE)[None, : drawn.tokens]
    joint, apart = (drawn.numbers(2, 1, few, SLOTS, size, seed=6) for _ in range(2))
    query = two_weights.linear_rotated(
        normed, first, weights, (None, None), EPSILON, (every, few), *angles, (*joint, slots)
    )
    for columns, weight in zip(drawn.kinds, weights, strict=True):
        turned = angles[0][:, columns], angles[1][:, columns]
        wanted = skinny_linear.linear_rotated(
            normed.of(columns), weight, None, EPSILON, (every, few), *turned, (*apart, slots[:, columns])
        )
        assert same(query[:, :, columns], wanted)
    assert same(joint, apart)


@each_case
def test_a_projection_that_is_added(shape: str, first: int, others: int) -> None:
    drawn = Drawn(shape, first, others)
    width, every, _, size = SHAPES[shape]
    weights = drawn.weights(width, every * size)
    seen = [drawn.numbers(1, count, every * size, seed=7 + count) for count in (first, others)]
    norm = 1 + drawn.numbers(width, seed=1)
    joint, apart = (drawn.numbers(1, drawn.tokens, width) for _ in range(2))
    given = two_weights.linear_added((seen[0], seen[1]), weights, joint, norm)
    room = room_for_norm(apart, width)
    for kind, weight, hidden in zip(drawn.kinds, weights, seen, strict=True):
        for columns in some_at_a_time(kind):
            few = hidden[:, columns.start - kind.start : columns.stop - kind.start]
            skinny_linear.linear_added(few, weight, apart[:, columns], norm, room.of(columns))
    assert same(joint, apart) and same(given.gained, room.gained)
    written = [parts.parts.view(given.count, -1)[:, : drawn.tokens] for parts in (given, room)]
    assert same(written[0], written[1])


@each_case
def test_heads_with_norms(shape: str, first: int, others: int) -> None:
    from orthrus.kernels.small_ops import split_heads_of_two_kinds
    from orthrus.kernels.triton_small_ops import split_heads

    drawn = Drawn(shape, first, others)
    _, every, few, size = SHAPES[shape]
    joined = drawn.numbers(1, drawn.tokens, (every + 2 * few) * size)
    angles = torch.rand(2, 1, drawn.tokens, size, device=DEVICE).bfloat16()
    slots = torch.randperm(SLOTS, device=DEVICE)[None, : drawn.tokens]
    own, beside = ((1 + drawn.numbers(size, seed=seed), drawn.numbers(size, seed=seed + 1), 1e-6) for seed in (8, 10))
    joint, apart = (drawn.numbers(2, 1, few, SLOTS, size, seed=6) for _ in range(2))
    query = split_heads_of_two_kinds(joined, first, (every, few), *angles, (own, beside), (*joint, slots))
    for columns, norms in zip(drawn.kinds, (own, beside), strict=True):
        turned = angles[0][:, columns], angles[1][:, columns]
        placed = *apart, slots[:, columns]
        assert same(query[:, :, columns], split_heads(joined[:, columns], (every, few), *turned, norms, placed)[0])
    assert same(joint, apart)
