"""Weight matrices as the native kernels read them: float weights where they lie, blocks laid out anew."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from orthrus_transformers.model.block_weights import BlockWeight, block_weight
from orthrus_transformers.native.library import MatrixStructure

FLOATS = {torch.float32: 0, torch.float16: 1, torch.bfloat16: 30}  # kinds of tensors, by GGUF's numbers
ALIGNMENT = 64  # bytes


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

    def of_module(self, module: Any) -> NativeMatrix:
        """Return the matrix of a linear layer or an embedding table, with its bias."""
        blocks = block_weight(module)
        key = id(blocks if blocks is not None else module.weight)
        if key not in self._made:
            self._made[key] = self._packed(blocks) if blocks is not None else in_place(module.weight)
        return _with_bias(self._made[key], getattr(module, "bias", None))

    def _packed(self, blocks: BlockWeight) -> NativeMatrix:
        if blocks.kind in FLOATS.values():
            return in_place(blocks.as_stored())
        rows, columns = blocks.shape
        size = self._library.orthrus_packed_bytes(blocks.kind, rows, columns)
        packed = aligned_zeros(size)
        order = None if blocks.order is None else blocks.order.contiguous()
        stored = blocks.stored
        self._library.orthrus_pack(
            blocks.kind,
            rows,
            columns,
            stored.ctypes.data,
            None if order is None else order.data_ptr(),
            packed.data_ptr(),
        )
        blocks.give_back()
        return NativeMatrix(MatrixStructure(blocks.kind, rows, columns, packed.data_ptr(), None, 0), (packed,))


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
