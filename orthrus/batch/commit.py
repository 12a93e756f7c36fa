"""A step's arithmetic in torch, the twin of the commit kernel. B: rows, n: width of a draft, T: room for tokens."""

from __future__ import annotations

import torch
from torch import Tensor


def commit(
    tokens: Tensor,
    lengths: Tensor,
    room: Tensor,
    limits: Tensor,
    draft: Tensor,
    accepted: Tensor,
    bonus: Tensor,
    stop_ids: Tensor,
    broken: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Add each row's accepted drafts and its bonus token [B] to tokens [B, T], in place.

    limits [B]: how many tokens a row may commit. stop_ids [B, S]: each row's, filled up with -1. broken [B]: see
    `CheckedDraft`. Return the new lengths, room and
    anchors [B], and what the host is to know [B, 3 + n + 1]: broken, accepted, how many were committed, which.
    """
    accepted_counts = accepted.clamp(0, draft.shape[1])  # [B]; what is not there is reported with the step
    candidates = append_bonus(draft, accepted_counts, bonus)  # [B, n + 1]
    counts = cut_at_stop(candidates, torch.minimum(accepted_counts + 1, limits), stop_ids)  # [B]
    write(tokens, lengths, candidates)
    lengths, room = lengths + counts, room - counts
    anchors = find_anchors(tokens, lengths)  # not later: then it would hold up the next pass
    if stop_ids.numel():  # a row that goes on does not have a stop for its newest token
        room = room.masked_fill((anchors[:, None] == stop_ids).any(1), 0)
    facts = [column[:, None] for column in (broken, accepted, counts)]
    return lengths, room, anchors, torch.cat([*facts, candidates], dim=1)


def append_bonus(tokens: Tensor, accepted: Tensor, bonus: Tensor) -> Tensor:
    """Return [B, n + 1]: the draft tokens [B, n] with each row's bonus token [B] placed after its accepted [B] ones."""
    if tokens.shape[1] == 0:
        return bonus[:, None]
    candidates = torch.cat([tokens, bonus[:, None]], dim=1)
    return candidates.scatter_(1, accepted[:, None], bonus[:, None])


def cut_at_stop(candidates: Tensor, counts: Tensor, stop_ids: Tensor) -> Tensor:
    """Return counts [B], reduced so that the first stop among the candidates [B, m] is the last one kept.

    stop_ids: [B, S], or [S] for all rows.
    """
    if stop_ids.numel() == 0:
        return counts
    new_tokens = torch.arange(1, candidates.shape[1] + 1, device=candidates.device)  # if the stop is at this place
    is_stop = (candidates[..., None] == stop_ids.unsqueeze(-2)).any(-1)  # [B, m]
    return torch.minimum(counts, torch.where(is_stop, new_tokens, candidates.shape[1]).amin(dim=1))


def write(tokens: Tensor, lengths: Tensor, candidates: Tensor) -> None:
    """Write candidates [B, n + 1] behind each row's tokens; the last column takes what lies beyond a row's room."""
    index = lengths[:, None] + torch.arange(candidates.shape[1], device=tokens.device)
    tokens.scatter_(1, index.clamp(max=tokens.shape[1] - 1), candidates)


def find_anchors(tokens: Tensor, lengths: Tensor) -> Tensor:
    """Return the newest token of each row: [B]."""
    return tokens.gather(1, lengths[:, None] - 1)[:, 0]
