"""On a CUDA device: kernels that look up and that find the largest, held against torch's."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from orthrus.kernels import skinny_linear
from orthrus.kernels.argmax import argmax
from orthrus.kernels.lookups import angles, embedded

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
VOCABULARIES = (1, 5, 1000, 16_384, 49_152, 70_001, 151_936)


@given(st.integers(0, 2**32), st.sampled_from(VOCABULARIES), st.integers(1, 3), st.integers(1, 65), st.booleans())
def test_the_largest_is_torchs_on_the_cpu(seed: int, vocabulary: int, rows: int, columns: int, equal: bool) -> None:
    """The lowest of equal ones, wherever no number or an infinity is."""
    generator = torch.Generator("cuda").manual_seed(seed)
    scores = torch.randn(rows, columns, vocabulary, generator=generator, device="cuda")
    scores = scores.round(decimals=1) if equal else scores
    special = torch.randint(vocabulary, (3,), generator=generator, device="cuda")
    scores[0, 0] = float("-inf")
    scores[-1, -1, special[0]], scores[-1, 0, special[1]] = float("nan"), float("inf")
    wanted = scores.cpu().argmax(-1)
    assert torch.equal(argmax(scores).cpu(), wanted)
    assert torch.equal(argmax(scores[:, 1:]).cpu(), wanted[:, 1:])  # with a gap behind each row, or nothing at all


@given(st.integers(0, 2**32), st.integers(1, 2), st.integers(1, 160), st.sampled_from([64, 288, 576, 4096]))
def test_embeddings_have_the_bits_of_a_lookup_and_a_gain(seed: int, rows: int, columns: int, size: int) -> None:
    generator = torch.Generator("cuda").manual_seed(seed)
    table, norm = (
        torch.randn(*shape, generator=generator, device="cuda").bfloat16() for shape in ((99, size), (size,))
    )
    token_ids = torch.randint(99, (rows, columns), generator=generator, device="cuda")
    got, wanted = embedded(token_ids, table, norm), skinny_linear.gain(table[token_ids], norm)
    assert torch.equal(got.hidden, wanted.hidden)
    assert torch.equal(got.gained, wanted.gained)
    assert (got.count, got.stride) == (wanted.count, wanted.stride)
    assert torch.equal(got.parts[: rows * columns], wanted.parts[: rows * columns])


@pytest.mark.parametrize("size", [64, 80, 128])
def test_angles_are_rows_of_the_tables(size: int) -> None:
    cosine, sine = torch.randn(2, 300, size, device="cuda").bfloat16()
    positions = torch.randint(300, (3, 17), device="cuda")
    for got, table in zip(angles(positions, cosine, sine), (cosine, sine), strict=True):
        assert torch.equal(got, table[positions])
