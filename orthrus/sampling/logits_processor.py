"""The logits processor: applied to the target's logits at each place, before a verifier sees them; off by default."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from orthrus.batch.context import Context
from orthrus.batch.row_settings import ANY, NOBODY
from orthrus.paths import chain_positions
from orthrus.sampling.functions import NEVER, penalize_repetition, widen
from orthrus.sampling.rows import warp_rows
from orthrus.values import Draft


@dataclass(frozen=True)
class LogitsProcessor:
    """Applies each row's sampling settings; one that no row uses costs nothing. L: the longest bad word, W: how many.

    Settings are tensors, one value a row, also where all rows have the same: a row's logits are the same to the bit
    whoever is beside it.
    """

    @classmethod
    def of(cls, context: Context) -> LogitsProcessor:
        """Return the processor of a context."""
        return cls()

    def __call__(self, context: Context, draft: Draft, logits: Tensor) -> Tensor:
        """Return logits [B, n + 1, V]; each place sees the draft's tokens before it. In the order of transformers."""
        settings = context.settings
        if settings.bias is not None:
            logits = widen(logits)
            logits = logits + settings.number("bias", logits.dtype)
        logits = penalized(context, draft, logits)
        if settings.bad_words is not None:
            logits = logits.masked_fill(self._completed(context, draft), NEVER)
        return warp_rows(self._early(context, draft, logits), settings)

    def _early(self, context: Context, draft: Draft, logits: Tensor) -> Tensor:
        """Return the logits without stop tokens before min_new_tokens."""
        settings = context.settings
        if settings.min_new_tokens is None or settings.stop_mask is None:
            return logits
        produced = (context.lengths - context.prompt_lengths)[:, None]  # [B, 1]
        places = produced + chain_positions(draft.paths, logits.shape[1], logits.device)  # [B, n + 1]
        early = places < settings.min_new_tokens
        return logits.masked_fill(early[..., None] & settings.stop_mask, NEVER)

    def _completed(self, context: Context, draft: Draft) -> Tensor:
        """Return whether a token would complete a bad word: [B, n + 1, V]."""
        bad_words, words = context.settings.bad_words, context.settings.words
        assert bad_words is not None and words is not None
        width = bad_words.shape[2] - 1
        past = _last_tokens(context, draft, width) if width else None  # [B, n + 1, L - 1]
        shape = (len(context.rows), draft.tokens.shape[1] + 1)
        banned = torch.zeros(*shape, context.vocabulary_size, device=context.device)
        fits = words.expand(*shape, -1)
        if past is not None:
            beginning = bad_words[:, None, :, :-1]  # [B, 1, W, L - 1]
            fits = fits * ((past[:, :, None] == beginning) | (beginning == ANY)).all(-1)  # [B, n + 1, W]
        return banned.scatter_add_(2, bad_words[:, None, :, -1].expand(fits.shape), fits) > 0


def _last_tokens(context: Context, draft: Draft, count: int) -> Tensor:
    """Return the last tokens up to each place, NOBODY before the text: [B, n + 1, count]."""
    before = context.lengths[:, None] + torch.arange(-count, 0, device=context.device)  # [B, count]
    last = torch.where(before < 0, NOBODY, context.tokens.gather(1, before.clamp(min=0)))
    text = torch.cat([last, draft.tokens], dim=1)  # [B, count + n]; the anchor's column is count - 1
    if draft.paths is None:
        return text.unfold(1, count, 1)
    columns = draft.paths.back(count) + count - 1
    return text.gather(1, columns.flatten(1)).view_as(columns)


def penalized(context: Context, draft: Draft, logits: Tensor) -> Tensor:
    """Return logits [B, n + 1, V] with each row's penalties for the tokens that came before a place."""
    settings = context.settings
    if settings.repetition_penalty is not None:
        seen, logits = _counts(context, draft, None) > 0, widen(logits)
        logits = penalize_repetition(logits, seen, settings.number("repetition_penalty", logits.dtype))
    presence, frequency = settings.presence_penalty, settings.frequency_penalty
    if presence is None and frequency is None:
        return logits
    logits = widen(logits)
    counts = _counts(context, draft, context.prompt_lengths).to(logits.dtype)
    if frequency is not None:
        logits = logits - settings.number("frequency_penalty", logits.dtype) * counts
    if presence is not None:
        logits = logits - settings.number("presence_penalty", logits.dtype) * (counts > 0).to(logits.dtype)
    return logits


def _counts(context: Context, draft: Draft, since: Tensor | None) -> Tensor:
    """Return how often each token comes before each place, from the row's start or `since` [B] on: [B, n + 1, V]."""
    columns = torch.arange(context.tokens.shape[1], device=context.device)  # [T]
    counted = columns < context.lengths[:, None]
    if since is not None:
        counted &= columns >= since[:, None]
    width = draft.tokens.shape[1]
    counts = torch.zeros(len(context.rows), width + 1, context.vocabulary_size, device=context.device)
    counts[:, 0].scatter_add_(1, context.tokens, counted.float())
    counts[:, 1:].scatter_(2, draft.tokens[..., None], 1.0)
    if draft.paths is not None:
        # Numbers of drafted tokens are small, so that a product is exact in whatever it is computed.
        return counts[:, :1] + draft.paths.seen[..., 1:].float() @ counts[:, 1:]
    return counts.cumsum(1) if width else counts
