"""Chains through the places of a block, walked from left to right: each token follows the one before it.

Everything is on the device, in operations of fixed shapes. B: rows, n: places, k: candidates of a place, V: vocabulary.
"""

from __future__ import annotations

import torch
from torch import Tensor

from orthrus import Chance, Context, Draft
from orthrus.sampling import add_noise, row_probabilities, warp_draft
from orthrus_diffusion.tree import likeliest_of

FOLLOWED = 16  # k: candidates of a place, the likeliest by the view alone


def walked(choices: Tensor) -> Tensor:
    """Return the candidate [B, n] that a walk takes of each place; of the place before the first it is number 0.

    choices [B, n, k]: which candidate follows each of those of the place before. A prefix scan: after a step of twice
    the length, an entry says where a walk of so many places ends.
    """
    step, places = 1, choices.shape[1]
    while step < places:
        further = choices[:, step:].gather(2, choices[:, :-step])
        choices = torch.cat([choices[:, :step], further], dim=1)
        step *= 2
    return choices[:, :, 0]


def greedy_chain(tokens: Tensor, values: Tensor, transitions: Tensor) -> Tensor:
    """Return the tokens [B, n] of the walk that takes the likeliest candidate after each.

    tokens, values [B, n, k]: candidates and their logits; transitions [B, n, k, k]: what is added to a candidate's
    after each of those of the place before it.
    """
    choices = (values[:, :, None] + transitions).argmax(-1)  # [B, n, k]
    return tokens.gather(2, walked(choices)[..., None])[..., 0]


def draw_chain(context: Context, chance: Chance, logits: Tensor, transitions: Tensor, lengths: Tensor) -> Draft:
    """Return tokens drawn one after the other, with the noise of a coupled verifier, and what each was drawn from.

    logits [B, n, V]; transitions [B, n, k, k] of the likeliest. A token that is none of them is drawn by its own
    logit, and so is one that follows such a token. So each is drawn from all of the vocabulary, given the one before.
    """
    drawn_from = warp_draft(context, logits)  # [B, n, V]
    transitions = warped_transitions(context, transitions.to(drawn_from.dtype))
    tokens = likeliest_of(logits, transitions.shape[-1])[1]
    options, scores = with_the_rest(tokens, add_noise(context, drawn_from, chance), transitions)
    walk = walked(scores.argmax(-1))  # [B, n]
    before = torch.cat([torch.zeros_like(walk[:, :1]), walk[:, :-1]], dim=1)
    corrections = without_the_rest(transitions).gather(2, _rows_of(before, transitions.shape[-1]))[:, :, 0]  # [B, n, k]
    drawn_from = drawn_from.scatter_add(2, tokens, corrections)
    drafted = options.gather(2, walk[..., None])[..., 0]
    return Draft(drafted, lengths, _probabilities(context, drawn_from, drafted), passes=1)


def _probabilities(context: Context, drawn_from: Tensor, drafted: Tensor) -> Tensor:
    """Return what tokens [B, n] were drawn from, [B, n, V]; in a row at temperature 0 all of it is on what was drafted.

    Of equal scores a walk takes the candidate that the view likes best, where an argmax takes the first token.
    """
    probabilities, drawing = row_probabilities(context, drawn_from), context.settings.drawing
    if drawing is None:
        return probabilities
    chosen = torch.zeros_like(probabilities).scatter(-1, drafted[..., None], 1.0)
    return torch.where(drawing, probabilities, chosen)


def warped_transitions(context: Context, transitions: Tensor) -> Tensor:
    """Return transitions divided by the rows' temperatures, as `warp_draft` divides logits."""
    settings = context.settings
    if settings.temperature is None:
        return transitions
    return transitions / settings.number("temperature", transitions.dtype)[..., None]


def with_the_rest(tokens: Tensor, scores: Tensor, transitions: Tensor) -> tuple[Tensor, Tensor]:
    """Return the options [B, n, k + 1] of each place, and their scores [B, n, k + 1, k + 1] after those before.

    The last option is the best token that is no candidate. scores [B, n, V]; tokens [B, n, k]: the candidates.
    """
    rest = scores.scatter(2, tokens, -torch.inf).max(-1, keepdim=True)
    options = torch.cat([tokens, rest.indices], dim=2)
    own = torch.cat([scores.gather(2, tokens), rest.values], dim=2)
    return options, own[:, :, None] + torch.nn.functional.pad(transitions, (0, 1, 0, 1))


def without_the_rest(transitions: Tensor) -> Tensor:
    """Return transitions [B, n, k + 1, k]: none after the option that is no candidate."""
    return torch.nn.functional.pad(transitions, (0, 0, 0, 1))


def _rows_of(before: Tensor, count: int) -> Tensor:
    return before[..., None, None].expand(-1, -1, 1, count)
