"""On a CUDA device: attention of one query and its projection in one kernel, to the bit of the two apart."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from orthrus import MaskDescription
from orthrus.kernels import skinny_linear
from orthrus_attention.split_kv import SplitAttention

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def drawn(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(shape, generator=generator, device="cuda").bfloat16()


@pytest.mark.parametrize("heads", [(9, 3, 64), (14, 2, 64), (8, 8, 128), (3, 1, 48)])
@pytest.mark.parametrize("context", [0, 63, 64, 200, 511, 1023])
@pytest.mark.parametrize("window", [None, 100])
def test_every_bit_is_that_of_the_two_apart(heads: tuple[int, int, int], context: int, window: int | None) -> None:
    every, few, size = heads
    generator, backend = torch.Generator("cuda").manual_seed(context), SplitAttention()
    slots, width = max(128, 1 << context.bit_length()), 32 * every
    positions, lengths = (torch.tensor(value, device="cuda") for value in ([[context]], [context]))
    prepared = backend.prepare(MaskDescription("causal", positions, lengths, slots), window, torch.bfloat16)
    query, weight = drawn(generator, 1, every, 1, size), drawn(generator, width, every * size) / 16
    keys, values = (drawn(generator, 1, few, slots, size) for _ in range(2))
    for buffer in (keys, values):
        buffer[:, :, context + 1 :] = float("nan")  # what nobody may look at
    residual, norm = drawn(generator, 1, 1, width), drawn(generator, width)
    behind = {"weight": weight, "norm": norm}
    together = residual.clone()
    got = backend.attend_added(query, keys, values, prepared, scale=0.1, residual=together, **behind)
    assert got is not None, "it fits"
    seen = backend.attend(query, keys, values, prepared, scale=0.1).transpose(1, 2).reshape(1, 1, -1)
    wanted = skinny_linear.linear_added(seen, weight, residual, norm)
    assert torch.equal(together, residual)
    assert torch.equal(got.gained, wanted.gained)
    assert (got.count, got.stride) == (wanted.count, wanted.stride)
    assert torch.equal(got.parts.view(got.count, -1)[:, 0], wanted.parts.view(got.count, -1)[:, 0])


@pytest.mark.parametrize(
    ("queries", "slots", "dtype"), [(2, 512, "bfloat16"), (1, 2048, "bfloat16"), (1, 512, "float32")]
)
def test_what_does_not_fit_is_left_alone(queries: int, slots: int, dtype: str) -> None:
    """Several queries, keys in several groups of parts, and another dtype."""
    kind, backend = getattr(torch, dtype), SplitAttention()
    positions = torch.arange(slots - queries, slots, device="cuda")[None]
    mask = MaskDescription("causal", positions, positions[:, 0], slots)
    query, keys = torch.ones(1, 9, queries, 64, device="cuda", dtype=kind), torch.ones(1, 3, slots, 64, device="cuda")
    residual = torch.ones(1, queries, 64, device="cuda", dtype=kind)
    behind = {"weight": torch.ones(64, 576, device="cuda", dtype=kind), "norm": residual[0, 0]}
    prepared, keys = backend.prepare(mask, None, kind), keys.to(kind)
    assert backend.attend_added(query, keys, keys, prepared, scale=0.1, residual=residual, **behind) is None
    assert bool((residual == 1).all())
