"""Weights that stay in a GGUF file's blocks: linear layers and embedding tables over a mapped file.

Their own forward widens what it needs, by the package `gguf`, and multiplies in float32: slow, and exactly the model
that the file describes, which engines that compute with the blocks themselves are held against.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import embedding, linear

from orthrus.files import SAMPLE

FLOATS = {0: torch.float32, 1: torch.float16, 30: torch.bfloat16}  # by GGUF's number of a type
ROWS_AT_ONCE = 8192  # that are widened, so that a head never is as a whole


@dataclass(frozen=True, eq=False)
class BlockWeight:
    """A weight [N, I] in a file: `kind` is GGUF's number of its type, and `size` its bytes from `offset` on.

    order [N]: which of the file's rows each one is; None: they are in order.
    """

    file: Path
    name: str
    kind: int
    shape: tuple[int, int]
    offset: int
    size: int
    order: Tensor | None = None
    _mapped: list[mmap.mmap] = field(default_factory=list)

    @property
    def stored(self) -> np.ndarray[Any, np.dtype[np.uint8]]:
        """The file's bytes [N, bytes of a row], mapped when they are first asked for."""
        if not self._mapped:
            with self.file.open("rb") as opened:
                self._mapped.append(mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ))
        flat = np.frombuffer(self._mapped[0], dtype=np.uint8, count=self.size, offset=self.offset)
        return flat.reshape(self.shape[0], -1)

    def give_back(self) -> None:
        """Forget the mapping, and with it the file's pages that it held in memory; they can be mapped again."""
        self._mapped.clear()

    def rows(self, numbers: Tensor) -> Tensor:
        """Return some rows [R, I] in float32."""
        from gguf import GGMLQuantizationType, dequantize

        chosen = numbers if self.order is None else self.order[numbers]
        widened = dequantize(self.stored[chosen.numpy()], GGMLQuantizationType(self.kind))
        return torch.from_numpy(np.ascontiguousarray(widened, dtype=np.float32)).reshape(-1, self.shape[1])

    def widened(self) -> Tensor:
        """Return the whole weight [N, I] in float32."""
        return self.rows(torch.arange(self.shape[0]))

    def vector(self) -> Tensor:
        """Return a weight of one row in float32 [N], its numbers in order: of a norm, or a bias."""
        if self.kind in FLOATS:
            values = self._floats()[0].float()
        else:
            values = replace(self, order=None).rows(torch.zeros(1, dtype=torch.int64))[0]
        return values if self.order is None else values[self.order]

    def as_stored(self) -> Tensor:
        """Return a weight of floats [N, I] in the dtype that it is stored in, which is no type of blocks."""
        values = self._floats()
        return values if self.order is None else values[self.order]

    def _floats(self) -> Tensor:
        dtype = FLOATS[self.kind]
        bits = np.ascontiguousarray(self.stored).view(np.int32 if dtype == torch.float32 else np.int16)
        return torch.from_numpy(bits.copy()).view(dtype)


class BlockModule(torch.nn.Module):
    """A module whose weight stays in blocks; `weight` widens it anew whenever it is asked for."""

    def __init__(self, blocks: BlockWeight) -> None:
        super().__init__()
        self.blocks = blocks

    @property
    def weight(self) -> Tensor:
        """The weight [N, I] in float32: a new tensor."""
        return self.blocks.widened()

    def __deepcopy__(self, memo: dict[int, Any]) -> BlockModule:
        return type(self)(self.blocks)  # the file is not changed by anybody

    def _save_to_state_dict(self, destination: dict[str, Tensor], prefix: str, keep_vars: bool) -> None:
        destination[f"{prefix}weight"] = self.weight
        super()._save_to_state_dict(destination, prefix, keep_vars)


class BlockLinear(BlockModule):
    """A linear layer [N, I] without or with a bias [N]."""

    def __init__(self, blocks: BlockWeight, bias: Tensor | None = None) -> None:
        super().__init__(blocks)
        self.bias = None if bias is None else torch.nn.Parameter(bias, requires_grad=False)
        self.out_features, self.in_features = blocks.shape

    def forward(self, inputs: Tensor) -> Tensor:
        """Return inputs [..., I] times the transposed weight, plus the bias: [..., N]."""
        count = self.blocks.shape[0]
        parts = [torch.arange(first, min(first + ROWS_AT_ONCE, count)) for first in range(0, count, ROWS_AT_ONCE)]
        outputs = torch.cat([linear(inputs, self.blocks.rows(part)) for part in parts], dim=-1)
        return outputs if self.bias is None else outputs + self.bias

    def widened(self) -> torch.nn.Linear:
        """Return a plain linear layer with the same weight in float32."""
        plain = torch.nn.Linear(self.in_features, self.out_features, self.bias is not None, device="meta")
        plain.weight = torch.nn.Parameter(self.weight, requires_grad=False)
        if self.bias is not None:
            plain.bias = torch.nn.Parameter(self.bias.clone(), requires_grad=False)
        return plain

    def __deepcopy__(self, memo: dict[int, Any]) -> BlockLinear:
        return BlockLinear(self.blocks, None if self.bias is None else self.bias.detach().clone())


class BlockEmbedding(BlockModule):
    """An embedding table [V, E]."""

    def forward(self, token_ids: Tensor) -> Tensor:
        """Return the rows [..., E] of tokens [...]."""
        return embedding_rows(self, token_ids)


def embedding_rows(table: Any, tokens: Tensor) -> Tensor:
    """Return a table's rows [..., E] of tokens [...], without what a model multiplies them by."""
    blocks = block_weight(table)
    if blocks is None:
        return embedding(tokens, table.weight)
    return blocks.rows(tokens.flatten()).reshape(*tokens.shape, -1)


def block_weight(module: Any) -> BlockWeight | None:
    """Return a module's weight in blocks; None: it has one of plain numbers."""
    return module.blocks if isinstance(module, BlockModule) else None


def stored_weight(module: Any) -> object:
    """Return what holds a module's weight: the same object for modules that share it."""
    blocks = block_weight(module)
    return module.weight if blocks is None else blocks


def block_bytes(model: torch.nn.Module) -> int:
    """Return the bytes of all weights in blocks, each counted once."""
    weights = {module.blocks for module in model.modules() if isinstance(module, BlockModule)}
    return sum(weight.size for weight in weights)


def block_beginnings(model: torch.nn.Module, values: int = SAMPLE) -> Iterator[tuple[str, Tensor]]:
    """Yield each weight in blocks by its first name, so many values of it: for a fingerprint."""
    seen: set[BlockWeight] = set()
    for path, module in model.named_modules():
        if isinstance(module, BlockModule) and module.blocks not in seen:
            seen.add(module.blocks)
            rows = min(-(-values // module.blocks.shape[1]), module.blocks.shape[0])
            yield f"{path}.weight", module.blocks.rows(torch.arange(rows))


def widen_linears(root: torch.nn.Module) -> None:
    """Replace linear layers in blocks below a module by plain ones: their weights may be changed then."""
    for name, child in root.named_children():
        if isinstance(child, BlockLinear):
            setattr(root, name, child.widened())
        else:
            widen_linears(child)


def holds_blocks(model: torch.nn.Module) -> bool:
    """Tell whether any weight of a model is in blocks."""
    return any(isinstance(module, BlockModule) for module in model.modules())
