"""Pure functions on logits and drafts; no state, no randomness. B: rows, n: width of a draft, V: vocabulary."""

from __future__ import annotations

import torch
from torch import Tensor

from orthrus.kernels.available import row_kernels
from orthrus.settings import Sampling

NEVER = float("-inf")


def warp(logits: Tensor, sampling: Sampling) -> Tensor:
    """Return logits [..., V] divided by the temperature and cut by top-k, top-p and min-p, in this order.

    The softmax of what is returned is what a token is drawn from. At temperature 0 nothing is drawn, and nothing done.
    """
    if sampling.temperature == 0:
        return logits
    if sampling.temperature != 1:
        logits = widen(logits) / sampling.temperature
    if sampling.top_k is not None:
        logits = keep_top_k(logits, sampling.top_k)
    if sampling.top_p < 1:
        logits = keep_top_p(logits, sampling.top_p)
    return keep_min_p(logits, sampling.min_p) if sampling.min_p > 0 else logits


def widen(logits: Tensor) -> Tensor:
    """Return logits in float32 at least: halves are too coarse for probabilities."""
    return logits if logits.dtype == torch.float64 else logits.float()


def keep_top_k(logits: Tensor, count: int) -> Tensor:
    """Return logits [..., V] with all but the `count` largest impossible; ties with the last of them stay."""
    least = logits.topk(min(count, logits.shape[-1]), dim=-1).values[..., -1:]
    return logits.masked_fill(logits < least, NEVER)


def keep_top_p(logits: Tensor, probability: float) -> Tensor:
    """Return logits [..., V] with all impossible but the fewest likeliest that together have this probability."""
    # Of equal ones the later are cut first, on every device and in every batch.
    ascending, order = (values.flip(-1) for values in widen(logits).sort(dim=-1, descending=True, stable=True))
    removed = ascending.softmax(-1).cumsum(-1) <= 1 - probability
    removed[..., -1] = False  # the likeliest stays, however rounding falls
    return logits.masked_fill(removed.scatter(-1, order, removed), NEVER)


def keep_min_p(logits: Tensor, share: float | Tensor) -> Tensor:
    """Return logits [..., V] with those impossible whose probability is below this share of the likeliest one's."""
    probabilities = widen(logits).softmax(-1)
    return logits.masked_fill(probabilities < share * probabilities.amax(-1, keepdim=True), NEVER)


def penalize_repetition(logits: Tensor, seen: Tensor, penalty: float | Tensor) -> Tensor:
    """Return logits [..., V]: where `seen` is true, those below zero times the penalty, the others divided by it."""
    return torch.where(seen, torch.where(logits < 0, logits * penalty, logits / penalty), logits)


def suppress_tokens(logits: Tensor, token_ids: Tensor, positions: Tensor) -> Tensor:
    """Return logits [B, n, V] with token_ids [S] made impossible where positions [B, n] is true."""
    banned = torch.zeros(logits.shape[-1], dtype=torch.bool, device=logits.device)
    banned[token_ids] = True
    return logits.masked_fill(positions[..., None] & banned, NEVER)


def token_probabilities(logits: Tensor, temperature: float) -> Tensor:
    """Return what processed logits [..., V] are drawn from; at temperature 0 all of it is on the largest."""
    if temperature == 0:
        return torch.zeros_like(widen(logits)).scatter(-1, logits.argmax(-1, keepdim=True), 1.0)
    return widen(logits).softmax(-1)


def acceptance(probabilities: Tensor, tokens: Tensor, drawn_from: Tensor | None) -> Tensor:
    """Return with which probability [B, n] each draft token [B, n] is accepted once all before it are.

    probabilities [B, n, V]: the target's. drawn_from [B, n, V]: the drafter's; None: the tokens were chosen, not drawn.
    It is min(1, p / q) (arXiv 2211.17192).
    """
    token_chances = probabilities.gather(-1, tokens[..., None])[..., 0]
    if drawn_from is None:
        return token_chances
    given = drawn_from.gather(-1, tokens[..., None])[..., 0].to(token_chances.dtype)
    return torch.where(token_chances >= given, 1.0, token_chances / given)  # what is no number stays none


def accepted_counts(chances: Tensor, lengths: Tensor) -> Tensor:
    """Return the probability [B, n + 1] of each number of accepted tokens, given each one's chance [B, n].

    A chance that is no number, of logits that a draft alone asked for, is none.
    """
    inside = torch.arange(chances.shape[1], device=chances.device) < lengths[:, None]
    chances = torch.where(inside & (chances >= 0), chances, 0.0)
    ones = chances.new_ones(len(chances), 1)
    reached = torch.cat([ones, chances.cumprod(1)], dim=1)  # [B, n + 1] all before it are accepted
    return reached * torch.cat([1 - chances, ones], dim=1)


def residual(probabilities: Tensor, tokens: Tensor, drawn_from: Tensor | None) -> Tensor:
    """Return what is left of the target's probabilities [B, V] for the token that replaces a rejected one [B].

    It is max(0, p - q), not normalised; where nothing is left, p: then nothing was rejected but by rounding.
    """
    if drawn_from is None:
        left = probabilities.scatter(-1, tokens[:, None], 0.0)
    else:
        left = (probabilities - drawn_from.to(probabilities.dtype)).clamp(min=0)
    return torch.where(left.sum(-1, keepdim=True) > 0, left, probabilities)


def accept_greedy(choices: Tensor, tokens: Tensor, lengths: Tensor) -> Tensor:
    """Return how many leading draft tokens [B, n] equal the target's choices [B, n + 1] at the same places: [B]."""
    if tokens.shape[1] == 0:
        return torch.zeros_like(lengths)
    if kernels := row_kernels(choices.device):
        accepted: Tensor = kernels.accept(choices, tokens, lengths)
        return accepted
    agree = (choices[:, :-1] == tokens).long().cumprod(dim=1).sum(dim=1)  # [B]; what lies beyond a length included
    return torch.minimum(agree, lengths)
