"""The logits processor: applied to the target's logits at each place, before a verifier sees them; off by default."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from orthrus.machine import precise
from orthrus.sampling.functions import NEVER, penalize_repetition, suppress_tokens, warp, widen
from orthrus.settings import Sampling
from orthrus.values import Draft

if TYPE_CHECKING:
    from orthrus.batch.context import Context

NOBODY, ANY = -1, -2  # no token; a place of a bad word that every token fits


@dataclass(frozen=True, eq=False)
class LogitsProcessor:
    """Sampling settings as tensors on the device. V: size of the vocabulary, W: bad words, L: the longest one.

    bias [V]; bad_words [W, L]: filled up in front. Either is None where there are none.
    """

    sampling: Sampling
    bias: Tensor | None
    bad_words: Tensor | None

    @classmethod
    def of(cls, context: Context) -> LogitsProcessor:
        """Return the processor of a context's settings, whose bad words are token ids."""
        sampling, device = context.sampling, context.device
        return cls(sampling, _bias(sampling, context.vocabulary_size, device), _bad_words(sampling, device))

    def __call__(self, context: Context, draft: Draft, logits: Tensor) -> Tensor:
        """Return logits [B, n + 1, V]; each place sees the draft's tokens before it. In the order of transformers."""
        if self.bias is not None:
            logits = widen(logits)
            logits = logits + self.bias.to(logits.dtype)
        logits = self._penalized(context, draft, logits)
        if self.bad_words is not None:
            logits = logits.masked_fill(self._completed(context, draft), NEVER)
        return warp(self._early(context, logits), self.sampling)

    def _penalized(self, context: Context, draft: Draft, logits: Tensor) -> Tensor:
        presence, frequency = self.sampling.presence_penalty, self.sampling.frequency_penalty
        if self.sampling.repetition_penalty != 1:
            seen = _counts(context, draft, None) > 0
            logits = penalize_repetition(widen(logits), seen, self.sampling.repetition_penalty)
        if presence or frequency:
            logits = widen(logits)
            counts = _counts(context, draft, context.prompt_lengths).to(logits.dtype)
            logits = logits - frequency * counts - presence * (counts > 0).to(logits.dtype)
        return logits

    def _early(self, context: Context, logits: Tensor) -> Tensor:
        """Return the logits without stop tokens before min_new_tokens."""
        if context.stop.min_new_tokens == 0 or not context.stop.token_ids:
            return logits
        produced = (context.lengths - context.prompt_lengths)[:, None]  # [B, 1]
        places = produced + torch.arange(logits.shape[1], device=logits.device)  # [B, n + 1]
        return suppress_tokens(logits, context.stop_ids, places < context.stop.min_new_tokens)

    def _completed(self, context: Context, draft: Draft) -> Tensor:
        """Return whether a token would complete a bad word: [B, n + 1, V]."""
        assert self.bad_words is not None
        width = self.bad_words.shape[1] - 1
        before = context.lengths[:, None] + torch.arange(-width, 0, device=context.device)  # [B, L - 1]
        last = torch.where(before < 0, NOBODY, context.tokens.gather(1, before.clamp(min=0)))
        past = torch.cat([last, draft.tokens], dim=1).unfold(1, width, 1) if width else None  # [B, n + 1, L - 1]
        shape = (len(context.rows), draft.tokens.shape[1] + 1)
        banned = torch.zeros(*shape, context.vocabulary_size, device=context.device)
        if past is None:
            fits = torch.ones(*shape, len(self.bad_words), device=context.device)
        else:
            beginning = self.bad_words[:, :-1]
            fits = ((past[:, :, None] == beginning) | (beginning == ANY)).all(-1).float()  # [B, n + 1, W]
        return banned.index_add_(2, self.bad_words[:, -1], fits) > 0


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
    return counts.cumsum(1) if width else counts


def _bias(sampling: Sampling, vocabulary_size: int, device: torch.device) -> Tensor | None:
    if not sampling.logit_bias:
        return None
    values = torch.zeros(vocabulary_size, dtype=precise(device))
    values[list(sampling.logit_bias)] = torch.tensor(list(sampling.logit_bias.values()), dtype=values.dtype)
    return values.to(device)


def _bad_words(sampling: Sampling, device: torch.device) -> Tensor | None:
    words = [list(word) for word in sampling.bad_words]
    longest = max(map(len, words), default=0)
    filled = [[ANY] * (longest - len(word)) + word for word in words]
    return torch.tensor(filled, device=device) if filled else None
