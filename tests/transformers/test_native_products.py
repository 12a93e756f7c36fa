"""Native products: any format is widened as its definition says, and a row's bits depend on no other row."""

from __future__ import annotations

import ctypes
import functools
from pathlib import Path

import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType as Kind
from hypothesis import given
from hypothesis import strategies as st
from support.gguf_blocks import KINDS, random_blocks, widened
from support.native import needs_kernels
from support.thorough import thorough_but
from torch import Tensor
from torch.nn.functional import linear

from orthrus_transformers.model.block_weights import BlockLinear, BlockWeight
from orthrus_transformers.native.library import load_library
from orthrus_transformers.native.rounded_weights import FOUR_BIT_KINDS, four_bit_blocks
from orthrus_transformers.native.weights import MatrixFactory, NativeMatrix, in_place

pytestmark = needs_kernels
FEW_TOKENS = 9
MANY_TOKENS = (19, 20, 21, 23, 26, 31)  # around where tiles are widened once for all tokens, and with any remainder
TOKENS = st.one_of(st.integers(1, FEW_TOKENS), st.sampled_from(MANY_TOKENS))
COUNTS = st.one_of(st.integers(1, 5), st.sampled_from((19, 37)))  # of blocks; 19: more than all tokens meet at once
FLOATS = [torch.float32, torch.float16, torch.bfloat16]


@functools.cache
def library() -> ctypes.CDLL:
    return load_library(lambda note: None)


def product(matrix: NativeMatrix, inputs: Tensor, rounded: bool = False) -> Tensor:
    outputs = torch.empty(len(inputs), matrix.structure.rows)
    address = inputs.contiguous().data_ptr()
    library().orthrus_multiply(matrix.structure, address, len(inputs), rounded, outputs.data_ptr())
    return outputs


def in_blocks(kind: Kind, rows: int, columns: int, seed: int, folder: Path) -> tuple[NativeMatrix, Tensor]:
    """Return a matrix in a file's blocks, and what it stands for."""
    stored = random_blocks(kind, rows, columns, seed)
    file = folder / "blocks"
    file.write_bytes(b"before" + stored.tobytes())
    order = torch.randperm(rows, generator=torch.Generator().manual_seed(seed)) if seed % 2 else None
    weight = BlockWeight(file, "blocks", int(kind), (rows, columns), len(b"before"), stored.nbytes, order)
    values = widened(kind, stored)
    matrix = MatrixFactory(library()).of_module(BlockLinear(weight))
    return matrix, values if order is None else values[order]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("blocks")


def assert_product(matrix: NativeMatrix, weight: Tensor, inputs: Tensor) -> None:
    """Assert that products are right within the rounding of their sums, and each row's the same in any company."""
    outputs = product(matrix, inputs)
    exact = inputs.double() @ weight.double().t()
    bound = inputs.double().abs() @ weight.double().abs().t() * weight.shape[1] * torch.finfo(torch.float32).eps
    assert bool(((outputs.double() - exact).abs() <= bound + 1e-30).all())
    every = range(1, len(inputs))
    for count in every if len(inputs) <= FEW_TOKENS else (1, 2, len(inputs) - 20, 7, 19, len(inputs) - 1):
        if count not in every:
            continue
        assert torch.equal(product(matrix, inputs[:count]), outputs[:count])
        assert torch.equal(product(matrix, inputs[count:]), outputs[count:])


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_blocks_are_widened_within_a_product(kind: Kind, data: st.DataObject, folder: Path) -> None:
    large = kind in (Kind.Q4_K, Kind.Q6_K)
    columns = data.draw(st.integers(1, 5)) * 256 if large else data.draw(COUNTS) * 32
    rows, tokens, seed = data.draw(st.integers(1, 70)), data.draw(TOKENS), data.draw(st.integers(0, 99))
    matrix, weight = in_blocks(kind, rows, columns, seed, folder)
    inputs = torch.randn(tokens, columns, generator=torch.Generator().manual_seed(seed))
    assert_product(matrix, weight, inputs)
    row = torch.empty(columns)
    library().orthrus_widen_row(matrix.structure, rows - 1, row.data_ptr())
    torch.testing.assert_close(row, weight[-1], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("kind", thorough_but([*KINDS][:2], KINDS))
@given(data=st.data())
def test_rounded_inputs_are_rounded_by_half_a_step_and_no_more(kind: Kind, data: st.DataObject, folder: Path) -> None:
    columns = data.draw(st.integers(1, 3)) * 256
    rows, tokens, seed = data.draw(st.integers(1, 70)), data.draw(TOKENS), data.draw(st.integers(0, 99))
    matrix, weight = in_blocks(kind, rows, columns, seed, folder)
    inputs = torch.randn(tokens, columns, generator=torch.Generator().manual_seed(seed))
    inputs[0, :40] = data.draw(st.sampled_from([0.0, 1e-30, 1e4]))  # a block of equal numbers, or of none
    outputs = product(matrix, inputs, rounded=True)
    if int(kind) not in FOUR_BIT_KINDS:
        assert torch.equal(outputs, product(matrix, inputs))
    steps = inputs.unflatten(1, (-1, 32)).abs().amax(-1).double() / 127  # [tokens, blocks]
    # Of a block's numbers, which are from 0 to 15, each is taken times the rounding of its input.
    numbers = weight.unflatten(1, (-1, 32)).double()
    reach = (numbers - numbers.mean(-1, keepdim=True)).abs().sum(-1) + numbers.abs().sum(-1)
    bound = steps @ reach.t() + inputs.double().abs() @ weight.double().abs().t() * 1e-4 + 1e-20
    assert bool(((outputs.double() - inputs.double() @ weight.double().t()).abs() <= bound).all())
    for count in {1, 2, 3, 5, tokens - 1} & set(range(1, tokens)):
        assert torch.equal(product(matrix, inputs[:count], rounded=True), outputs[:count])
        assert torch.equal(product(matrix, inputs[count:], rounded=True), outputs[count:])


@given(rows=st.integers(1, 9), blocks=st.integers(1, 4), scale=st.sampled_from([1e-3, 1.0]), seed=st.integers(0, 99))
def test_four_bit_copies_are_near(rows: int, blocks: int, scale: float, seed: int) -> None:
    weight = torch.randn(rows, blocks * 32, generator=torch.Generator().manual_seed(seed)) * scale
    weight[0, :32] = scale  # a block of equal values
    stored = four_bit_blocks(weight).numpy()
    values = widened(Kind.Q4_1, stored)
    spans = (weight.unflatten(1, (-1, 32)).amax(-1) - weight.unflatten(1, (-1, 32)).amin(-1)).repeat_interleave(32, 1)
    assert bool(((values - weight).abs() <= spans / 15 + 2e-3 * scale).all())
    assert (
        float((values - weight).square().mean()) <= 1.2 * float((spans / 15).square().mean() / 12) + (1e-3 * scale) ** 2
    )


@pytest.mark.parametrize("dtype", FLOATS)
@given(data=st.data())
def test_floats_are_widened_within_a_product(dtype: torch.dtype, data: st.DataObject) -> None:
    rows, columns, seed = (data.draw(st.integers(1, most)) for most in (70, 70, 99))
    tokens = data.draw(TOKENS)
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(rows, columns, generator=generator).to(dtype)
    inputs = torch.randn(tokens, columns, generator=generator)
    assert_product(in_place(weight), weight.float(), inputs)


@pytest.mark.parametrize("kind", KINDS)
def test_errors_are_no_larger_than_those_of_widening_first(kind: Kind, folder: Path) -> None:
    matrix, weight = in_blocks(kind, 256, 1536, 1, folder)
    inputs = torch.randn(16, 1536, generator=torch.Generator().manual_seed(0))
    exact = inputs.double() @ weight.double().t()
    widening_first = torch.cat([linear(row[None], weight) for row in inputs])
    own, other = (
        float((found.double() - exact).square().mean()) for found in (product(matrix, inputs), widening_first)
    )
    assert own <= 1.1 * other


def test_subnormal_halves_are_widened_exactly() -> None:
    halves = torch.from_numpy(np.arange(65536, dtype=np.uint16).view(np.int16)).view(torch.float16)
    weight = halves[halves.isfinite()][:, None].contiguous()
    outputs = product(in_place(weight), torch.ones(1, 1))[0]
    assert torch.equal(outputs, weight[:, 0].float())
