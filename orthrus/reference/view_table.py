"""A table target with views: a view is a table of its own, which fills a whole block by following itself.

So drafters that need `views` can be checked without a neural network.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from orthrus.batch.context import Context
from orthrus.errors import BuildError
from orthrus.files import fingerprint_weights
from orthrus.reference.table import TableTarget

WEIGHT = "table"  # the name of the only weight


class ViewTableTarget(TableTarget):
    """A table target whose views predict a block at once: each place from the view's own choices before it."""

    name = "table"
    directory: Path | None = None
    capabilities = TableTarget.capabilities | {"views"}

    @property
    def view_names(self) -> list[str]:
        """The views that are attached."""
        return sorted(self._views)

    @property
    def _views(self) -> dict[str, Tensor]:
        views: dict[str, Tensor] = self.__dict__.setdefault("_attached", {})
        return views

    def attach_view(self, name: str, weights: Mapping[str, Tensor] | None = None) -> None:
        """Add a view: this table, or a copy of the model's, with which every draft is right."""
        if name in self._views:
            raise BuildError(f"the target has a view '{name}' already")
        table = self._table if weights is None else weights[WEIGHT].reshape(self._table.shape)
        self._views[name] = table.clone()

    def detach_view(self, name: str) -> None:
        """Forget a view."""
        if name not in self._views:
            raise BuildError(f"the target has no view '{name}'")
        del self._views[name]

    def view_weights(self, name: str) -> Mapping[str, Tensor]:
        """Return the view's table."""
        return {WEIGHT: self._views[name]}

    def fingerprint(self) -> str:
        """Return what tells this table from others."""
        return fingerprint_weights([(WEIGHT, self._table)])

    def forward(
        self,
        context: Context,
        tokens: Tensor,
        positions: Tensor,
        *,
        view: str | None = None,
        kind: Literal["causal", "block"] = "block",
    ) -> Tensor:
        """Return the logits [B, n, V] after tokens [B, n] that follow what is committed; write scratch slots only."""
        self.turn.check(context)
        width = tokens.shape[1]
        spare = (positions == positions[:, :1]).sum(1) - 1  # [B] columns that a row does not use come first
        columns = torch.arange(width, device=self.device) - spare[:, None]
        slots = positions[:, :1] + columns % width  # theirs are after the block's
        causal = self.run_pass(tokens, slots, int(slots.max()) + 1)
        if view is None or kind == "causal":
            return causal
        table = self._views[view]  # [V ** order, V]
        choices, texts = table.argmax(-1).tolist(), zip(context.tokens.tolist(), context.lengths.tolist(), strict=True)
        pasts = [
            self._block(text[:length], unused, width, choices)
            for (text, length), unused in zip(texts, spare.tolist(), strict=True)
        ]
        return table[torch.tensor(pasts, device=self.device) % len(table)]

    def _block(self, text: list[int], spare: int, width: int, choices: list[int]) -> list[int]:
        """Return where in the table a row's places [n] are, each after the choices before it.

        Where the row is not used, it is its anchor's place.
        """
        past, texts = ([0] * self._order + text)[-self._order :], self.vocabulary_size**self._order
        states = [sum(token * self.vocabulary_size**exponent for exponent, token in enumerate(reversed(past)))]
        while len(states) < width - spare:
            states.append(states[-1] * self.vocabulary_size % texts + choices[states[-1] % len(choices)])
        return [states[0]] * spare + states
