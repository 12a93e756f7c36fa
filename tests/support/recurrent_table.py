"""A table whose past is a state of each row, as recurrent layers have one, and not keys in slots."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from orthrus import Context, Draft, KVCache, Step
from orthrus.testing import TableTarget


class RecurrentTable(TableTarget):
    """Hold the last tokens of each row's text [B, order]; what a scored draft leaves is pending until `keep`."""

    marks_states = True

    def __init__(self, table: Tensor, cache: KVCache, **options: object) -> None:
        super().__init__(table, cache, **options)  # type: ignore[arg-type]  # those of the table
        self.order = table.dim() - 1
        self.states = torch.zeros(0, self.order, dtype=torch.int64)  # 0 before a text begins
        self.held = torch.zeros(0, dtype=torch.int64)  # [B] tokens of each row's text that its state has seen
        self.marked = self.states, self.held
        self.pending: Tensor | None = None  # [B, order + n] the states before a pass, and its tokens
        self.moves_rows = True

    def start(self, context: Context) -> None:
        """Hold states of no tokens."""
        super().start(context)
        self.states = torch.zeros(len(context.rows), self.order, dtype=torch.int64)
        self.held, self.pending = torch.zeros(len(context.rows), dtype=torch.int64), None
        self.marked = self.states, self.held

    def move_rows(self, sources: Sequence[int]) -> None:
        """Move the states of rows."""
        super().move_rows(sources)
        chosen = torch.tensor([max(0, source) for source in sources])
        empty = torch.tensor([source < 0 for source in sources])
        self.states = self.states[chosen] if len(self.states) else torch.zeros(len(sources), self.order).long()
        self.held = self.held[chosen].masked_fill(empty, 0) if len(self.held) else torch.zeros(len(sources)).long()
        self.mark()

    def prefill(self, context: Context, rows: Sequence[int]) -> Tensor:
        """Let the rows have the states after their prompts."""
        logits = super().prefill(context, rows)
        for row in rows:
            prompt = context.rows[row].prompt
            self.states[row] = torch.tensor([0] * self.order + list(prompt))[-self.order :]
            self.held[row] = len(prompt)
        return logits

    def score(self, context: Context, draft: Draft) -> Tensor:
        """Look up what follows each row's state and each token."""
        self.turn.check(context)
        tokens = torch.cat([context.anchors[:, None], draft.tokens], dim=1)
        self.pending = torch.cat([self.states, tokens], dim=1)
        past = self.pending.unfold(1, self.order, 1)[:, 1:]  # [B, n + 1, order]
        return self.look_up(past)

    def keep(self, step: Step) -> None:
        """Let rows have the states after what is kept, or those of the mark."""
        super().keep(step)
        pending, self.pending = self.pending, None
        if pending is None:
            return
        counts = self.counts(step.lengths - 1, pending.shape[1] - self.order)
        places = counts.clamp(min=0)[:, None] + torch.arange(self.order)
        back = (counts < 0)[:, None]
        self.states = torch.where(back, self.marked[0], pending.gather(1, places))
        self.held = step.lengths - 1

    def counts(self, lengths: Tensor, columns: int) -> Tensor:
        """Return how many tokens of the pass are kept [B]; below 0: cut before it."""
        return (lengths - self.held).clamp(max=columns)

    def mark(self) -> None:
        """Remember the states of now."""
        self.marked = self.states.clone(), self.held
