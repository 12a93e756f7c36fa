"""Pure functions on logits and drafts; no state, no randomness."""

from __future__ import annotations

import torch
from torch import Tensor


def suppress_tokens(logits: Tensor, token_ids: Tensor, positions: Tensor) -> Tensor:
    """Return logits [B, n, V] with token_ids [S] made impossible where positions [B, n] is true."""
    banned = torch.zeros(logits.shape[-1], dtype=torch.bool, device=logits.device)
    banned[token_ids] = True
    return logits.masked_fill(positions[..., None] & banned, float("-inf"))


def accept_greedy(choices: Tensor, tokens: Tensor, lengths: Tensor) -> Tensor:
    """Return how many leading draft tokens [B, n] equal the target's choices [B, n + 1] at the same places: [B]."""
    if tokens.shape[1] == 0:
        return torch.zeros_like(lengths)
    agree = (choices[:, :-1] == tokens).long().cumprod(dim=1).sum(dim=1)  # [B]; what lies beyond a length included
    return torch.minimum(agree, lengths)


def append_bonus(tokens: Tensor, accepted: Tensor, bonus: Tensor) -> Tensor:
    """Return [B, n + 1]: the draft tokens [B, n] with each row's bonus token [B] placed after its accepted [B] ones."""
    if tokens.shape[1] == 0:
        return bonus[:, None]
    candidates = torch.cat([tokens, bonus[:, None]], dim=1)
    return candidates.scatter_(1, accepted[:, None], bonus[:, None])


def cut_at_stop(candidates: Tensor, counts: Tensor, stop_ids: Tensor) -> Tensor:
    """Return counts [B], reduced so that the first of stop_ids [S] among the candidates [B, m] is the last one kept."""
    if stop_ids.numel() == 0:
        return counts
    kept = torch.arange(1, candidates.shape[1] + 1, device=candidates.device)  # if the stop is at this place
    is_stop = (candidates[..., None] == stop_ids).any(-1)  # [B, m]
    return torch.minimum(counts, torch.where(is_stop, kept, candidates.shape[1]).amin(dim=1))
