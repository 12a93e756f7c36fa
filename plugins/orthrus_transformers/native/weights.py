"""Weight matrices as the native kernels read them: float weights where they lie, blocks laid out anew."""

from __future__ import annotations

import ctypes
import weakref
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from orthrus_transformers.model.block_weights import BlockWeight, block_weight
from orthrus_transformers.native.library import MatrixStructure
from orthrus_transformers.native.rounded_weights import BLOCK, FOUR_BIT_KINDS, Q4_1, four_bit_blocks

FLOATS = {torch.float32: 0, torch.float16: 1, torch.bfloat16: 30}  # kinds of tensors, by GGUF's numbers
ALIGNMENT = 64  # bytes
ROWS_AT_ONCE = 2048  # that are widened, so that a head never is as a whole


@dataclass(frozen=True, eq=False)
class NativeMatrix:
    """A matrix [N, I] and what holds its memory."""

    structure: MatrixStructure
    held: tuple[Tensor, ...]

    @property
    def nbytes(self) -> int:
        """The bytes that a product reads."""
        return self.held[0].nbytes


class MatrixFactory:
    """Makes matrices of modules' weights, each weight once."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library
        self._made: dict[int, NativeMatrix] = {}
        self._rounded: weakref.WeakKeyDictionary[Any, NativeMatrix] = weakref.WeakKeyDictionary()  # by module

    def of_module(self, module: Any) -> NativeMatrix:
        """Return the matrix of a linear layer or an embedding table, with its bias."""
        blocks = block_weight(module)
        key = id(blocks if blocks is not None else module.weight)
        if key not in self._made:
            self._made[key] = self._packed(blocks) if blocks is not None else in_place(module.weight)
        return _with_bias(self._made[key], getattr(module, "bias", None))

    def rounded_of_module(self, module: Any) -> NativeMatrix:
        """Return a linear layer's matrix in blocks of four bits, rounded to them if it has others, with its bias.

        It is for passes that only propose tokens. A weight whose columns do not come to whole blocks stays as it is.
        """
        own = self.of_module(module)
        if own.structure.kind in FOUR_BIT_KINDS or own.structure.columns % BLOCK:
            return own
        if module not in self._rounded:
            self._rounded[module] = self._four_bit(own.structure)
        return _with_bias(self._rounded[module], getattr(module, "bias", None))

    def _four_bit(self, own: MatrixStructure) -> NativeMatrix:
        rows, columns = own.rows, own.columns
        stored = torch.empty(rows, columns // BLOCK * 20, dtype=torch.uint8)
        for first in range(0, rows, ROWS_AT_ONCE):
            numbers = range(first, min(first + ROWS_AT_ONCE, rows))
            widened = torch.empty(len(numbers), columns)
            for row, number in zip(widened, numbers, strict=True):
                self._library.orthrus_widen_row(own, number, row.data_ptr())
            stored[first : first + len(numbers)] = four_bit_blocks(widened)
        return self._laid_out(Q4_1, rows, columns, stored.data_ptr(), None)

    def _packed(self, blocks: BlockWeight) -> NativeMatrix:
        if blocks.kind in FLOATS.values():
            return in_place(blocks.as_stored())
        order = None if blocks.order is None else blocks.order.contiguous()
        stored = blocks.stored
        matrix = self._laid_out(blocks.kind, *blocks.shape, stored.ctypes.data, order)
        blocks.give_back()
        return matrix

    def _laid_out(self, kind: int, rows: int, columns: int, stored: int, order: Tensor | None) -> NativeMatrix:
        """Return the matrix of blocks that lie at an address as in a file; order [rows]: which row each one is."""
        packed = aligned_zeros(self._library.orthrus_packed_bytes(kind, rows, columns))
        numbers = None if order is None else order.data_ptr()
        self._library.orthrus_pack(kind, rows, columns, stored, numbers, packed.data_ptr())
        return NativeMatrix(MatrixStructure(kind, rows, columns, packed.data_ptr(), None, 0), (packed,))


def in_place(weight: Tensor) -> NativeMatrix:
    """Return the matrix of a contiguous float weight [N, I]: the tensor's own memory."""
    rows, columns = weight.shape
    structure = MatrixStructure(FLOATS[weight.dtype], rows, columns, weight.data_ptr(), None, 0)
    return NativeMatrix(structure, (weight,))


def vector_in_place(weight: Tensor) -> NativeMatrix:
    """Return a float vector [N] as a matrix of one row."""
    return in_place(weight[None])


def aligned_zeros(size: int) -> Tensor:
    """Return so many zero bytes, from a multiple of ALIGNMENT on."""
    room = torch.zeros(size + ALIGNMENT, dtype=torch.uint8)
    return room[-room.data_ptr() % ALIGNMENT :][:size]


def _with_bias(matrix: NativeMatrix, bias: Tensor | None) -> NativeMatrix:
    if bias is None:
        return matrix
    plain = matrix.structure
    structure = MatrixStructure(plain.kind, plain.rows, plain.columns, plain.data, bias.data_ptr(), FLOATS[bias.dtype])
    return NativeMatrix(structure, (*matrix.held, bias))
