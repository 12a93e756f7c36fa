"""Shards of a model: modules of which each rank holds a part, by transformers' own tensor-parallel plan. N: ranks.

The parts are plain tensors and not torch's DTensors, so that views, fused layers, caches and CUDA graphs take them as
they take whole weights. B: rows, n: columns, E: size of a hidden state, V: size of the vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import embedding, linear

from orthrus import BuildError
from orthrus.ranks.group import RankGroup
from orthrus_transformers.model.part_logits import PartLogits


@dataclass(frozen=True)
class Part:
    """A rank's part of a parameter: of which shape [...] it is a part, along which dimension, from where to where.

    dimension None: this rank has all of it.
    """

    shape: tuple[int, ...]
    dimension: int | None
    start: int
    stop: int

    def of(self, whole: Any) -> Tensor:
        """Return the part of a whole tensor, or of a slice of a file, which is then read alone."""
        cut: Tensor
        if self.dimension is None:
            cut = whole[:]
        elif self.dimension == 0:
            cut = whole[self.start : self.stop]
        else:
            cut = whole[:, self.start : self.stop]
        return cut


@dataclass(frozen=True, eq=False)
class Shards:
    """The parts of a model's parameters by their names, and the group that holds the others."""

    group: RankGroup
    parts: Mapping[str, Part]
    vocabulary: int  # V

    def of(self, name: str, whole: Any) -> Tensor:
        """Return this rank's part of the parameter of a name."""
        return self.parts[name].of(whole)

    def logits(self, part: Tensor) -> PartLogits:
        """Return the logits of which this rank's part of the head gave a part [B, n, V / N, rounded up]."""
        return PartLogits(self.group, part, self.vocabulary)

    def joined(self, logits: Tensor) -> Tensor:
        """Return the logits [B, n, V] of all ranks' parts of the head [B, n, V / N, rounded up]."""
        return self.group.joined(logits, self.vocabulary)

    def head_rows(self, weight: Tensor, tokens: Tensor) -> Tensor:
        """Return a head's rows [..., E] for tokens [...]; weight [V / N, rounded up, E]: this rank's part of it."""
        size = weight.shape[0]
        if size == self.vocabulary:
            return embedding(tokens, weight)
        places = tokens - self.group.rank * size
        held = (places >= 0) & (places < size)
        rows = embedding(places.clamp(0, size - 1), weight)
        return self.group.sum(torch.where(held[..., None], rows, 0.0).to(rows.dtype))


def shards_of(model: Any) -> Shards | None:
    """Return the shards of a model; None: this process holds all of it."""
    return getattr(model, "orthrus_shards", None)


def group_of(model: Any) -> RankGroup | None:
    """Return the group that holds a model's other parts; None: there are none."""
    shards = shards_of(model)
    return None if shards is None else shards.group


class RowwiseLinear(torch.nn.Linear):
    """A linear layer whose inputs are sharded: products of parts are summed over the ranks, and then the bias added."""

    group: RankGroup

    def forward(self, input: Tensor) -> Tensor:
        """Return inputs [B, n, I / N] times the transposed weight [E, I / N], of all ranks, plus the bias."""
        summed = self.group.sum(linear(input, self.weight))
        return summed if self.bias is None else summed + self.bias


class VocabularyEmbedding(torch.nn.Embedding):
    """An embedding table whose tokens are sharded: a rank gives zeros for those of others, and all are summed."""

    group: RankGroup
    first: int  # of this rank's tokens

    def forward(self, input: Tensor) -> Tensor:
        """Return the table's rows [B, n, E] for tokens [B, n]."""
        places = input - self.first
        held = (places >= 0) & (places < self.weight.shape[0])
        rows = embedding(places.clamp(0, self.weight.shape[0] - 1), self.weight)
        return self.group.sum(torch.where(held[..., None], rows, 0.0).to(rows.dtype))


TOKENS_OF_KERNELS = 128
LARGE = 4096  # a vocabulary
LINEARS = (torch.nn.Linear, RowwiseLinear)  # that fused layers know


def shard(model: Any, group: RankGroup) -> None:
    """Let each rank hold a part of a model whose parameters hold no memory yet; `shards_of` tells of them then.

    Raises BuildError for a model that transformers has no plan for, whose plan asks for what is not known here, or that
    so many ranks cannot share.
    """
    sharding = _Sharding(model, group)
    for path, module in list(model.named_modules()):
        if style := sharding.style_of(path):
            sharding.apply(style, path, module)
    table, head = model.get_input_embeddings(), model.get_output_embeddings()
    if sharding.tied:
        head.weight = table.weight
    parts = {name: _whole(weight) for name, weight in model.named_parameters(remove_duplicate=False)}
    model.orthrus_shards = Shards(group, {**parts, **sharding.parts}, sharding.vocabulary)
    model.register_forward_hook(_join_logits)


def _join_logits(model: Any, args: Any, output: Any) -> Any:
    """Let a model's forward give all logits, unless it is part of a pass that is content with a part of them."""
    state = getattr(model.get_output_embeddings(), "orthrus_attention", None)
    if state is None or not state.in_parts:
        output.logits = model.orthrus_shards.joined(output.logits)
    return output


def _whole(weight: Tensor) -> Part:
    return Part(tuple(weight.shape), None, 0, weight.shape[0])


def tokens_of_a_rank(vocabulary: int, count: int) -> int:
    """Return how many tokens of a vocabulary each rank holds: of a large one as many as kernels of heads take."""
    each = -(-vocabulary // count)
    return -(-each // TOKENS_OF_KERNELS) * TOKENS_OF_KERNELS if vocabulary >= LARGE else each


class _Sharding:
    """Makes a model's modules those of a rank."""

    def __init__(self, model: Any, group: RankGroup) -> None:
        from orthrus_transformers.model.shard_plan import read_plan

        self.parts: dict[str, Part] = {}
        self._model, self._group = model, group
        self.style_of = read_plan(model, group.count)
        table, head = model.get_input_embeddings(), model.get_output_embeddings()
        if type(table) is not torch.nn.Embedding or type(head) is not torch.nn.Linear:
            raise BuildError(
                f"model type '{model.config.model_type}' cannot be shared by several processes: its embeddings are no"
                " plain table; set target.parallel=1"
            )
        self.tied = head.weight is table.weight
        self.vocabulary = int(table.weight.shape[0])

    def apply(self, style: str, path: str, module: Any) -> None:
        """Make a module hold a rank's part."""
        if style == "vocabulary":
            self._cut(path, module, 0, tokens_of_a_rank(self.vocabulary, self._group.count), padded=True)
            if isinstance(module, torch.nn.Embedding):
                self._replace(path, self._embedding(path, module))
        elif style == "colwise":
            module.out_features //= self._group.count
            self._cut(path, module, 0, module.out_features)
        else:
            module.in_features //= self._group.count
            self._cut(path, module, 1, module.in_features)
            self._replace(path, self._rowwise(module))

    def _cut(self, path: str, module: Any, dimension: int, size: int, padded: bool = False) -> None:
        """Leave this rank's part of a module's parameters; padded: the last one may be shorter, but is held as long."""
        start = self._group.rank * size
        for name, weight in list(module.named_parameters(recurse=False)):
            if weight.dim() <= dimension:  # the bias behind a sum
                continue
            shape = list(weight.shape)
            stop = min(start + size, shape[dimension]) if padded else start + size
            self.parts[f"{path}.{name}"] = Part(tuple(weight.shape), dimension, min(start, stop), stop)
            shape[dimension] = size
            setattr(module, name, torch.nn.Parameter(weight.new_empty(shape), requires_grad=False))

    def _rowwise(self, module: Any) -> RowwiseLinear:
        biased = module.bias is not None
        new = RowwiseLinear(module.in_features, module.out_features, biased, device="meta", dtype=module.weight.dtype)
        new.weight, new.group = module.weight, self._group
        if biased:
            new.bias = module.bias
        return new

    def _embedding(self, path: str, module: Any) -> VocabularyEmbedding:
        rows, size = module.weight.shape
        # A padding token's row is a row like others: training alone treats it as none.
        new = VocabularyEmbedding(rows, size, device="meta", dtype=module.weight.dtype)
        new.weight, new.group, new.first = module.weight, self._group, self.parts[f"{path}.weight"].start
        return new

    def _replace(self, path: str, module: torch.nn.Module) -> None:
        parent, _, name = path.rpartition(".")
        setattr(self._model.get_submodule(parent), name, module)
