"""The likeliest tree of a block whose drafts see each other: a path's probability is the product of its tokens', each
given the one before it. B: rows, D: places, V: vocabulary, k: candidates of a place, N: tokens of the tree.
"""

from __future__ import annotations

import torch
from torch import Tensor

from orthrus import Chance, Context
from orthrus.kernels.available import row_kernels
from orthrus.sampling import add_noise, warp_draft
from orthrus_diffusion.chain import walked, warped_transitions, with_the_rest
from orthrus_diffusion.tree import NEVER, assembled, likeliest_of, widened, within_room


def conditional(values: Tensor, normalizers: Tensor, transitions: Tensor) -> Tensor:
    """Return the log-probability [B, D, k, k] of each candidate after each of those of the place before.

    values [B, D, k]: logits of the candidates; normalizers [B, D]: the logarithm of the sum of all logits'
    exponentials; transitions [B, D, k, k]: what is added to the candidates'. All other tokens keep their logits, so
    that the probabilities of the whole vocabulary sum to 1.
    """
    values = widened(values)
    inside = values.logsumexp(-1)
    rest = normalizers + torch.log1p(-(inside - normalizers).clamp(max=0).exp())  # [B, D] of what is no candidate
    scores = values[:, :, None] + transitions
    return scores - torch.logaddexp(scores.logsumexp(-1), rest[..., None])[..., None]


def likeliest_chain(logits: Tensor, transitions: Tensor) -> tuple[Tensor, Tensor]:
    """Return the tokens [B, n] of the walk that takes the likeliest after each, and their probabilities [B, n].

    logits [B, n, V]; transitions [B, n, k, k] of the likeliest.
    """
    values, tokens, normalizers = likeliest_of(logits, transitions.shape[-1])
    scores = conditional(values, normalizers, transitions)  # [B, n, k, k]
    walk = walked(scores.argmax(-1))  # [B, n]
    before = torch.cat([torch.zeros_like(walk[:, :1]), walk[:, :-1]], dim=1)
    after = scores.gather(2, before[..., None, None].expand(-1, -1, 1, scores.shape[-1]))[:, :, 0]  # [B, n, k]
    chosen = walk[..., None]
    return tokens.gather(2, chosen)[..., 0], after.gather(2, chosen)[..., 0].exp()


def best_first_following(tokens: Tensor, scores: Tensor, room: Tensor, nodes: int) -> Tensor:
    """Return the likeliest tree of `nodes` tokens, as `tree.best_first` does: [B, 2 N + 1] int64.

    tokens [B, D, k]: candidates; scores [B, D, k, k]: their log-probabilities after those of the place before.
    """
    scores = within_room(scores, room)
    if row_kernels(scores.device) is None:
        return assembled(tokens, scores, room, nodes)
    from orthrus_diffusion.triton_following_tree import grow

    return grow(tokens, scores, room, nodes, NEVER)


def chosen_by_kernels(
    tokens: Tensor, values: Tensor, normalizers: Tensor, parts: Tensor, room: Tensor, nodes: int
) -> Tensor:
    """Return what `chain.greedy_chain` or, with nodes, `best_first_following` chooses: tokens [B, D] or [B, 2 N + 1].

    tokens, values [B, D, k] of the candidates; normalizers [B, D] as `conditional` takes them; parts [P, B, D, k, k] of
    the transitions, which kernels made: others add them up as they go.
    """
    from orthrus_diffusion.triton_following import ranked, walk
    from orthrus_diffusion.triton_following_tree import grow_ranked

    if not nodes:
        return walk(tokens, values, parts)
    return grow_ranked(tokens, *ranked(values, normalizers, parts, room, NEVER), room, nodes, NEVER)


def draw_tree(context: Context, chance: Chance, logits: Tensor, transitions: Tensor, nodes: int) -> Tensor:
    """Return the tree of a block whose tokens are ranked with the noise of a coupled verifier: [B, 2 N + 1].

    logits [B, D, V]; transitions [B, D, k, k] of the likeliest.
    """
    drawn_from = warp_draft(context, logits)
    transitions = warped_transitions(context, transitions.to(drawn_from.dtype))
    tokens = likeliest_of(logits, transitions.shape[-1])[1]
    noisy = widened(add_noise(context, drawn_from, chance))
    options, scores = with_the_rest(tokens, noisy, transitions)
    return best_first_following(options, scores - scores.logsumexp(-1, keepdim=True), context.room, nodes)
