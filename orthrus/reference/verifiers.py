"""The verifiers' definitions, row by row and token by token: what a verifier is held to, and what the kit decodes with.

V: size of the vocabulary, n: width of a draft.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from orthrus.batch.context import Context
from orthrus.chance import Chance
from orthrus.values import Draft, Verdict


def agreed(choices: Sequence[int], tokens: Sequence[int]) -> int:
    """Return how many leading draft tokens are the target's choices."""
    count = 0
    while count < len(tokens) and tokens[count] == choices[count]:
        count += 1
    return count


def followed(choices: Sequence[int], tokens: Sequence[int], parents: Sequence[int]) -> tuple[int, ...]:
    """Return the tokens of a tree, by index, that the target's choices [n + 1] lead along, the longest such path.

    choices: after the anchor, and after each token.
    """
    longest: tuple[int, ...] = ()
    paths: dict[int, tuple[int, ...]] = {-1: ()}
    for index, (token, parent) in enumerate(zip(tokens, parents, strict=True)):
        if parent in paths and choices[parent + 1] == token:
            paths[index] = (*paths[parent], index)
            longest = max(longest, paths[index], key=len)  # of equal ones the first
    return longest


def speculated(
    target: Sequence[Sequence[float]], tokens: Sequence[int], drawn_from: Sequence[Sequence[float]] | None
) -> list[list[float]]:
    """Return the probability [n + 1, V] of accepting so many tokens and then saying this one (arXiv 2211.17192).

    wanted [n + 1, V]: the target's probabilities. drawn_from [n, V]: the drafter's; None: the tokens were chosen.
    """
    joint: list[list[float]] = []
    reached = 1.0
    for index, token in enumerate(tokens):
        if reached == 0:  # what is never reached may be no number
            return [*joint, *[[0.0] * len(target[0]) for _ in range(len(tokens) + 1 - index)]]
        p = target[index]
        q = [float(candidate == token) for candidate in range(len(p))] if drawn_from is None else drawn_from[index]
        accepted = min(1.0, p[token] / q[token]) if q[token] > 0 else 1.0
        left = [0.0 if has < given else has - given for has, given in zip(p, q, strict=True)]
        if not sum(left) > 0:  # but for rounding nothing is refused, and it is the target's own
            left = list(p)
        joint.append([reached * (1 - accepted) * mass / sum(left) for mass in left])
        reached *= accepted
    return [*joint, [reached * chance if reached else 0.0 for chance in target[len(tokens)]]]


def walked(
    target: Sequence[Sequence[float]],
    tokens: Sequence[int],
    parents: Sequence[int],
    drawn_from: Sequence[Sequence[float]] | None,
) -> list[list[float]]:
    """Return the probability [n + 1, V] that a tree's walk ends at a place, 0 the anchor's, and says this token.

    The children of a place are tried in their order; each that is refused leaves its residual (arXiv 2305.09781).
    """
    joint = [[0.0] * len(target[0]) for _ in range(len(tokens) + 1)]
    reached = {0: 1.0}
    for place in range(len(tokens) + 1):
        left, weight = list(target[place]), reached.get(place, 0.0)
        for child in (index for index, parent in enumerate(parents) if parent + 1 == place):
            if not weight:  # what is never reached may be no number
                break
            token, certain = tokens[child], [float(candidate == tokens[child]) for candidate in range(len(left))]
            q = certain if drawn_from is None else drawn_from[child]
            accepted = min(1.0, left[token] / q[token]) if q[token] > 0 else 1.0
            reached[child + 1] = weight * accepted
            weight *= 1 - accepted
            rest = [0.0 if has < given else has - given for has, given in zip(left, q, strict=True)]
            left = [mass / sum(rest) for mass in rest] if sum(rest) > 0 else left
        if weight:
            joint[place] = [weight * mass / sum(left) for mass in left]
    return joint


class PlainConsensus:
    """Keep what greedy decoding would have said."""

    greedy = True
    verifies_trees = True

    def verify(self, context: Context, draft: Draft, logits: Tensor, chance: Chance) -> Verdict:
        """Return the longest prefix of choices and the choice after it."""
        return chosen(logits, draft)


class PlainCoupled:
    """Keep what the noise of request and position decides."""

    greedy = False
    coupled = True
    verifies_trees = True

    def verify(self, context: Context, draft: Draft, logits: Tensor, chance: Chance) -> Verdict:
        """Return the longest prefix of choices under noise and the choice after it."""
        positions = context.lengths[:, None] + torch.tensor(_depths(draft, logits.shape[1]), device=logits.device)
        noise = chance.gumbel(context.keys, positions, logits.shape[-1])
        draws = torch.tensor([row.sampling.temperature > 0 for row in context.rows], device=logits.device)
        return chosen(torch.where(draws[:, None, None], logits + noise, logits), draft)


class PlainRejection:
    """Draw how many tokens are accepted, or where a tree's walk ends, and the token after them, together."""

    greedy = False
    verifies_trees = True

    def verify(self, context: Context, draft: Draft, logits: Tensor, chance: Chance) -> Verdict:
        """Return one draw a row from the definition's joint distribution."""
        width, vocabulary = logits.shape[1:]
        joint = torch.tensor(self._joint(context, draft, logits), dtype=torch.float64, device=logits.device)
        drawn = chance.categorical(joint.reshape(len(logits), width * vocabulary))  # [B]
        if draft.parents is None:
            return Verdict(drawn // vocabulary, drawn % vocabulary)
        places = drawn // vocabulary
        depths = torch.tensor(_depths(draft, width), device=logits.device).gather(1, places[:, None])[:, 0]
        return Verdict(depths, drawn % vocabulary, places - 1)

    def _joint(self, context: Context, draft: Draft, logits: Tensor) -> list[list[list[float]]]:
        """Return what `speculated` gives for each row, with zeros beyond its draft: [B, n + 1, V]."""
        largest = logits.argmax(-1, keepdim=True)  # the first of equal ones
        certain = torch.zeros_like(logits).scatter(-1, largest, 1.0)
        draws = torch.tensor([row.sampling.temperature > 0 for row in context.rows], device=logits.device)
        probabilities = torch.where(draws[:, None, None], logits.softmax(-1), certain)
        given = None if draft.probabilities is None else _widened(draft.probabilities, logits.dtype).tolist()
        certainties = (probabilities / probabilities.sum(-1, keepdim=True)).tolist()
        rows = zip(certainties, draft.tokens.tolist(), draft.lengths.tolist(), strict=True)
        joint = []
        for row, (own, tokens, length) in enumerate(rows):
            beyond = [[0.0] * logits.shape[2]] * (logits.shape[1] - 1 - length)
            if draft.parents is None:
                joint.append(speculated(own, tokens[:length], given and given[row]) + beyond)
            else:
                parents = draft.parents[row, :length].tolist()
                joint.append(walked(own, tokens[:length], parents, given and given[row]) + beyond)
        return joint


def _widened(drawn_from: Tensor, dtype: torch.dtype) -> Tensor:
    """Return probabilities [B, n, V] as a draw takes them: those of a narrower dtype sum to one after widening.

    Others stay what they are: where they do not sum to one it is no matter of rounding.
    """
    if drawn_from.dtype == dtype:
        return drawn_from
    wide = drawn_from.to(dtype)
    return wide / wide.sum(-1, keepdim=True).clamp(min=torch.finfo(dtype).tiny)


def _depths(draft: Draft, count: int) -> list[list[int]]:
    """Return how far after the anchor each place of a draft is, the anchor's first: [B, count]."""
    if draft.parents is None:
        return [[*range(count)]] * len(draft.tokens)
    rows = []
    for parents in draft.parents.tolist():
        depths = [0]
        for parent in parents:
            depths.append(depths[parent + 1] + 1)
        rows.append(depths)
    return rows


def chosen(logits: Tensor, draft: Draft) -> Verdict:
    """Return the verdict of choosing the largest logits [B, n + 1, V]."""
    if draft.parents is not None:
        return _chosen_path(logits.argmax(-1), draft, draft.parents)
    verdicts = []
    for choices, tokens, length in zip(
        logits.argmax(-1).tolist(), draft.tokens.tolist(), draft.lengths.tolist(), strict=True
    ):
        count = agreed(choices, tokens[:length])
        verdicts.append((count, choices[count]))
    accepted, following = torch.tensor(verdicts, device=logits.device).unbind(1)
    return Verdict(accepted, following)


def _chosen_path(choices: Tensor, draft: Draft, parents: Tensor) -> Verdict:
    verdicts = []
    rows = zip(choices.tolist(), draft.tokens.tolist(), parents.tolist(), draft.lengths.tolist(), strict=True)
    for row_choices, tokens, row_parents, length in rows:
        path = followed(row_choices, tokens[:length], row_parents[:length])
        last = path[-1] if path else -1
        verdicts.append((len(path), row_choices[last + 1], last))
    accepted, following, last_tokens = torch.tensor(verdicts, device=choices.device).unbind(1)
    return Verdict(accepted, following, last_tokens)
