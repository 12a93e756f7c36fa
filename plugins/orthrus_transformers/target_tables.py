"""The tables of a target: rows of its embeddings and of its output head's matrix, and the head's products."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from orthrus.ranks.group import RankGroup
from orthrus_transformers.guards import on_its_device
from orthrus_transformers.model.block_weights import block_weight, embedding_rows
from orthrus_transformers.model.output_head import project
from orthrus_transformers.model.shards import shards_of


class TargetTables:
    """The embeddings and the output head of a target's model. B: rows, n: columns, V: vocabulary, h: hidden size."""

    device: torch.device
    group: RankGroup | None
    _model: Any

    @torch.no_grad()
    @on_its_device
    def embed(self, tokens: Tensor) -> Tensor:
        """Return the embedding table's rows [B, n, h] for tokens [B, n], without what a model multiplies them by."""
        table = self._model.get_input_embeddings()
        return table(tokens) if self.group else embedding_rows(table, tokens)

    @torch.no_grad()
    @on_its_device
    def head_rows(self, tokens: Tensor) -> Tensor:
        """Return the rows [..., h] of the output head's matrix for tokens [...], as they are stored."""
        head, shards = self._model.get_output_embeddings(), shards_of(self._model)
        return embedding_rows(head, tokens) if shards is None else shards.head_rows(head.weight, tokens)

    @torch.no_grad()
    @on_its_device
    def head(self, hidden: Tensor) -> Tensor:
        """Return the output head's products [B, n, V] of states [B, n, h]; in float32 for a 16-bit model."""
        products, shards = project(self._model.get_output_embeddings(), hidden), shards_of(self._model)
        return products if shards is None else shards.joined(products)

    def tables(self) -> tuple[Tensor, Tensor] | None:
        """Return the matrices [V, h] whose rows `embed` and `head_rows` give; None: not all of them is here, as it is.

        They may be one and the same.
        """
        modules = self._model.get_input_embeddings(), self._model.get_output_embeddings()
        if self.group is not None or any(block_weight(module) is not None for module in modules):
            return None
        table, matrix = (module.weight.detach() for module in modules)
        plain = all(weight.is_contiguous() and weight.device == self.device for weight in (table, matrix))
        return (table, matrix) if plain else None
