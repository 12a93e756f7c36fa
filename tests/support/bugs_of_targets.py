"""Targets, each broken in one way that was seen in the field, or that the design warns of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from orthrus import Context, Draft, KVCache, Step
from orthrus.testing import Letters, Scene, TableTarget, ViewTableTarget
from support.bug import Bug

TABLE = Scene(seed=3, vocabulary=5, order=2).table()


def over(kind: type[TableTarget], **options: Any) -> Any:
    return lambda cache: kind(TABLE, cache, tokenizer=Letters("abcde"), **options)


class OffByOne(TableTarget):
    """Place the next pass one slot too far, once something was rejected."""

    shift = 0

    def score(self, context: Context, draft: Draft) -> Tensor:
        self.width = draft.tokens.shape[1]
        return super().score(context, draft)

    def keep(self, step: Step) -> None:
        super().keep(step)
        rejected = not step.prefilled and any(len(tokens) <= self.width for tokens in step.committed if tokens)
        self.shift = int(rejected)

    def run_pass(self, tokens: Tensor, slots: Tensor, extent: int, rows: Tensor | None = None) -> Tensor:
        return super().run_pass(tokens, slots + self.shift, extent + self.shift, rows)


class SeesPadding(TableTarget):
    """Drop the mask: a shorter prompt's logits are those after its padding."""

    def prefill(self, context: Context, rows: Sequence[int]) -> Tensor:
        super().prefill(context, rows)
        width = max(len(context.rows[row].prompt) for row in rows)
        chosen = torch.tensor(rows)
        slots = torch.arange(width).expand(len(rows), -1)
        logits = self.run_pass(context.tokens[chosen, :width], slots, width, chosen)[:, -1:]
        return logits.new_zeros(len(context.rows), 1, self.vocabulary_size).index_copy(0, chosen, logits)


class ShiftedRows(TableTarget):
    """Return the logits of each place for the one after it."""

    def score(self, context: Context, draft: Draft) -> Tensor:
        return super().score(context, draft).roll(1, 1)


class KeepsEverything(TableTarget):
    """Write drafts beyond what was rejected, as if it were text."""

    def keep(self, step: Step) -> None:
        super().keep(step)
        self.behind = getattr(self, "behind", 0) + int(not step.prefilled and not any(step.accepted))

    def score(self, context: Context, draft: Draft) -> Tensor:
        logits = super().score(context, draft)
        return logits.roll(getattr(self, "behind", 0), -1)


class Remembering(TableTarget):
    """Keep something of the context before."""

    begun = 0

    def start(self, context: Context) -> None:
        super().start(context)
        self.begun += 1

    def score(self, context: Context, draft: Draft) -> Tensor:
        return super().score(context, draft) + (self.begun > 1) * torch.arange(self.vocabulary_size)


class OfTheFirstRow(TableTarget):
    """Score every row with the first one's lengths."""

    def score(self, context: Context, draft: Draft) -> Tensor:
        tokens = torch.cat([context.anchors[:, None], draft.tokens], dim=1)
        slots = (context.lengths[:1] - 1)[:, None] + torch.arange(tokens.shape[1]).expand(len(tokens), -1)
        return self.run_pass(tokens, slots, context.longest + draft.tokens.shape[1])


class OwnTopK(TableTarget):
    """Apply a top-k of its own, as a model's generation config may say."""

    def score(self, context: Context, draft: Draft) -> Tensor:
        logits = super().score(context, draft)
        return logits.masked_fill(logits < logits.topk(2).values[..., -1:], -1e9)


class OneScale(TableTarget):
    """Round with one scale for all rows of a pass, as kernels do that quantise their inputs when they run."""

    def score(self, context: Context, draft: Draft) -> Tensor:
        logits = super().score(context, draft)
        step = logits.abs().max() / 127
        return (logits / step).round() * step


class ClobbersRows(TableTarget):
    """Prefill over all rows, those that go on too."""

    def prefill(self, context: Context, rows: Sequence[int]) -> Tensor:
        slots = (context.lengths - 2).clamp(min=0)[:, None]
        self.run_pass(torch.zeros_like(slots), slots, context.longest)
        return super().prefill(context, rows)


class AnyContext(TableTarget):
    def score(self, context: Context, draft: Draft) -> Tensor:
        self.turn.begin(context)
        return super().score(context, draft)


class Full(TableTarget):
    """Promise a context of 12 and have one of 10."""

    def run_pass(self, tokens: Tensor, slots: Tensor, extent: int, rows: Tensor | None = None) -> Tensor:
        return super().run_pass(tokens, slots.clamp(max=9), extent, rows)


class Stateful(TableTarget):
    """Let logits from scratch depend on what was asked before."""

    asked = 0

    def logits(self, token_ids: Sequence[int], last: int) -> Tensor:
        self.asked += 1
        return super().logits(token_ids, last) * (1 + self.asked % 2)


class LosesTheLast(TableTarget):
    """Score the last token of a long draft as the one before it."""

    def score(self, context: Context, draft: Draft) -> Tensor:
        logits = super().score(context, draft)
        if draft.tokens.shape[1] > 1:
            logits[:, -1] = logits[:, -2]
        return logits


class WritesDrafts(TableTarget):
    def score(self, context: Context, draft: Draft) -> Tensor:
        logits = super().score(context, draft)
        draft.tokens.zero_()
        return logits


class CommittingViews(ViewTableTarget):
    """Write a view's pass over the anchor's past."""

    def forward(self, context: Context, tokens: Tensor, positions: Tensor, **how: Any) -> Tensor:
        return super().forward(context, tokens, (positions - 2).clamp(min=0), **how)


class UnknownCapability(TableTarget):
    capabilities = frozenset({"logits", "telepathy"})


def no_cache(cache: KVCache) -> TableTarget:
    return TableTarget(TABLE, cache, tokenizer=Letters("abcde"), stop_token_ids=[5])


BUGS = [
    Bug("target", "is off by one in its positions after a rejection", "keep_forgets_what_was_rejected", over(OffByOne)),
    Bug(
        "target",
        "drops the attention mask: a shorter row sees padding",
        "prefill_gives_its_own_logits",
        over(SeesPadding),
    ),
    Bug("target", "shifts its logits by a place", "score_gives_its_own_logits", over(ShiftedRows)),
    Bug("target", "scores all rows at the first one's place", "score_gives_its_own_logits", over(OfTheFirstRow)),
    Bug("target", "applies a top-k of its own", "score_gives_its_own_logits", over(OwnTopK)),
    Bug(
        "target",
        "moves on after a rejection as if all were kept",
        "keep_forgets_what_was_rejected",
        over(KeepsEverything),
    ),
    Bug("target", "rounds with one scale for all rows of a pass", "rows_do_not_see_each_other", over(OneScale)),
    Bug("target", "overwrites the rows that go on in a prefill of others", "rows_take_new_prompts", over(ClobbersRows)),
    Bug("target", "keeps something of the context before", "start_forgets_everything", over(Remembering)),
    Bug("target", "mixes two contexts up", "an_older_context_is_refused", over(AnyContext)),
    Bug("target", "has less room than it says", "a_context_can_be_filled", over(Full, max_length=12)),
    Bug("target", "lets `logits` depend on what was asked before", "logits_are_from_scratch", over(Stateful)),
    Bug("target", "scores a long draft's end as the place before", "greedy_text", over(LosesTheLast)),
    Bug("target", "writes into the draft", "inputs_are_left_alone", over(WritesDrafts)),
    Bug("target", "commits what a view's pass wrote", "views_write_scratch_only", over(CommittingViews)),
    Bug("target", "declares what nobody knows", "declares_itself", over(UnknownCapability)),
    Bug("target", "stops at a token that it does not have", "declares_itself", no_cache),
]
