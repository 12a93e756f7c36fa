"""Agreement of a draft with the target's choices: how much of a chain, or which path of a tree, is kept.

B: rows, n: tokens of a draft.
"""

from __future__ import annotations

import torch
from torch import Tensor

from orthrus.kernels.available import small_trees
from orthrus.paths import Paths
from orthrus.sampling.functions import accept_greedy
from orthrus.values import Draft, Verdict


def keep_agreed(choices: Tensor, draft: Draft) -> Verdict:
    """Return the verdict that keeps draft tokens which are the target's choices [B, n + 1], and the choice after them.

    Of a tree it is the longest path from the anchor; of two with the same tokens the first.
    """
    if not draft.tokens.shape[1]:
        return Verdict(draft.lengths, choices[:, 0])  # nothing was drafted: nothing is compared, nothing launched
    if draft.paths is not None:
        return _keep_path(choices, draft, draft.paths)
    accepted = accept_greedy(choices, draft.tokens, draft.lengths)  # [B]
    return Verdict(accepted, choices.gather(1, accepted[:, None])[:, 0])


def _keep_path(choices: Tensor, draft: Draft, paths: Paths) -> Verdict:
    if kernels := small_trees(draft.tokens):
        accepted, last, following = kernels.agree(choices, draft.tokens, paths.parents, draft.lengths)
        return Verdict(accepted, following, last)
    indices = torch.arange(paths.width - 1, device=choices.device)  # [n]
    wrong = draft.tokens != choices.gather(1, paths.before[:, 1:])
    wrong = wrong | (indices >= draft.lengths[:, None])  # [B, n]
    kept = ~(paths.seen[:, 1:, 1:] & wrong[:, None]).any(-1)  # [B, n] all on the path to it are right
    return verdict_at(kept, choices, paths)


def verdict_at(kept: Tensor, choices: Tensor, paths: Paths) -> Verdict:
    """Return the verdict of keeping the deepest of the tokens of which kept [B, n] is true, the first of equal ones.

    choices [B, n + 1]: what follows each place.
    """
    indices = torch.arange(paths.width - 1, device=choices.device)
    depths = torch.where(kept, paths.depths[:, 1:], 0)  # [B, n]
    last = (depths * paths.width - indices).argmax(1, keepdim=True)  # all different, so that it is the first
    accepted = depths.gather(1, last)[:, 0]
    last = torch.where(accepted > 0, last[:, 0], -1)
    return Verdict(accepted, choices.gather(1, (last + 1)[:, None])[:, 0], last)
