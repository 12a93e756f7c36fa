"""A tree of the likeliest continuations of a block, made on the device from its logits alone.

The places of a block do not see each other, so a path's probability is taken for the product of its tokens'. The most
probable paths that share their beginnings are the tree: best first, as in DDTree (arXiv 2604.12989). B: rows, D: places
of the block, V: vocabulary, k: tokens that are considered for a place, N: tokens of the tree.
"""

from __future__ import annotations

import torch
from torch import Tensor

from orthrus.kernels.available import row_kernels

CANDIDATES = 8  # k: what comes behind the eighth likeliest token of a place is hardly ever right
NEVER = -1e30  # of a log-probability: finite, so that sums of it are numbers


def best_first(logits: Tensor, room: Tensor, nodes: int) -> Tensor:
    """Return the likeliest tree of `nodes` tokens under the logits [B, D, V] of a block: [B, 2 N + 1] int64.

    Its tokens, the likeliest path first, their parents, and how many of them count: no more than room [B], which also
    bounds the places. Everything is on the device, in operations of fixed shapes: on a GPU in one kernel, where torch
    takes some for each place.
    """
    return best_of(*likeliest_of(logits, min(CANDIDATES, logits.shape[-1])), room, nodes)


def likeliest_of(logits: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the largest logits [B, D, k], their tokens, and the logarithm of the sum of all exponentials [B, D]."""
    if row_kernels(logits.device) is not None:
        from orthrus_diffusion.triton_candidates import likeliest

        return likeliest(logits, count)
    best = logits.topk(count, dim=-1)
    return best.values, best.indices, widened(logits).logsumexp(-1)


def best_of(logits: Tensor, tokens: Tensor, normalizer: Tensor, room: Tensor, nodes: int) -> Tensor:
    """Return what `best_first` does of the likeliest tokens [B, D, k] of each place, their logits, and normalizers."""
    if row_kernels(logits.device) is not None:
        from orthrus_diffusion.triton_tree import grow

        return grow(logits, tokens, normalizer, room, nodes, NEVER)
    return best_in_torch(candidate_scores(logits, normalizer, room), tokens, room, nodes)


def widened(logits: Tensor) -> Tensor:
    """Return logits in float32 at least."""
    return logits if logits.dtype == torch.float64 else logits.float()


def best_in_torch(scores: Tensor, tokens: Tensor, room: Tensor, nodes: int) -> Tensor:
    """Return what `best_first` does, without a kernel of its own; of trees that are as likely it may be another.

    scores, tokens [B, D, k]: of the candidates.
    """
    return assembled(tokens, scores[:, :, None].expand(-1, -1, tokens.shape[-1], -1), room, nodes)


def assembled(tokens: Tensor, scores: Tensor, room: Tensor, nodes: int) -> Tensor:
    """Return the likeliest tree [B, 2 N + 1] of candidates tokens [B, D, k].

    scores [B, D, k, k]: the log-probability of each after each of those of the place before; in the first place all
    are alike.
    """
    values, chosen, parents = grown(scores, nodes)
    order = values.sort(dim=1, descending=True, stable=True)  # of equal ones a parent stands before its children
    kept = order.indices[:, :nodes]  # [B, N]
    places = torch.empty_like(parents).scatter_(
        1, order.indices, torch.arange(parents.shape[1], device=room.device).expand_as(parents)
    )
    above = parents.gather(1, kept)
    parents = torch.where(above < 0, -1, places.gather(1, above.clamp(min=0)))
    picked = tokens.flatten(1).gather(1, chosen.gather(1, kept))
    likely = order.values[:, :nodes] > NEVER / 2
    lengths = torch.minimum(likely.sum(1), room)
    return torch.cat([picked, parents, lengths[:, None]], dim=1)


def candidate_scores(logits: Tensor, normalizer: Tensor, room: Tensor) -> Tensor:
    """Return the log-probabilities [B, D, k] of candidates with these logits.

    A place beyond a row's room has none; neither has one whose logits are no numbers.
    """
    return within_room(logits.to(normalizer.dtype) - normalizer[..., None], room)


def within_room(scores: Tensor, room: Tensor) -> Tensor:
    """Return finite log-probabilities [B, D, ...]: never, of what is no number or beyond a row's room [B]."""
    scores = scores.nan_to_num(NEVER, NEVER, NEVER).clamp(NEVER, 0)
    beyond = torch.arange(scores.shape[1], device=room.device) >= room[:, None]
    return scores.masked_fill(beyond.view(*beyond.shape, *[1] * (scores.dim() - 2)), NEVER)


def grown(scores: Tensor, nodes: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the beams of all depths, side by side: [B, M] each of log-probabilities, candidates, and parents.

    scores [B, D, k, k]: of the candidates, after each of those of the place before. Of each depth there are as many
    paths as could be in the tree. A candidate is its number of D k, a parent its column in the result, -1 for the
    anchor.
    """
    depth, count = scores.shape[1:3]
    width = min(nodes, count)
    first_place = scores[:, 0, 0].sort(dim=1, descending=True, stable=True)
    values, chosen = [first_place.values[:, :width]], [first_place.indices[:, :width]]
    parents = [torch.full_like(chosen[0], -1)]
    first = 0  # the column at which the beam before begins
    for place in range(1, min(depth, nodes)):
        after = (chosen[-1] % count)[..., None].expand(-1, -1, count)
        sums = (values[-1][..., None] + scores[:, place].gather(1, after)).clamp(min=NEVER).flatten(1)  # [B, width k]
        beam = sums.topk(min(nodes - place, sums.shape[1]), dim=1)  # a path to here has so many tokens before it
        values.append(beam.values)
        parents.append(first + beam.indices // count)
        chosen.append(place * count + beam.indices % count)
        first += width
        width = beam.indices.shape[1]
    return torch.cat(values, 1), torch.cat(chosen, 1), torch.cat(parents, 1)
