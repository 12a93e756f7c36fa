"""The accepted path of a tree: from here on a cycle goes on as if a chain had been drafted. B: rows, n: tokens.

V: size of the vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from orthrus.batch.context import Context
from orthrus.errors import InterfaceError
from orthrus.interfaces import Target
from orthrus.kernels.available import small_trees
from orthrus.paths import Paths
from orthrus.taps import TapDelivery
from orthrus.trees import ScoresTrees
from orthrus.values import Draft, Verdict


@dataclass(frozen=True, eq=False)
class AcceptedPath:
    """The path that a verdict keeps. order [B, n]: the token that comes i-th on it; beyond its end token i itself."""

    order: Tensor
    tokens: Tensor  # [B, n] in this order
    accepted: Tensor  # [B], -1 where the verdict's own number is not the length of its path

    @classmethod
    def of(cls, draft: Draft, verdict: Verdict) -> AcceptedPath:
        """Return the path of a checked draft's tree; InterfaceError for a verdict of a chain."""
        paths, last = draft.paths, verdict.last
        assert paths is not None, "the draft is a tree"
        if last is None:
            raise InterfaceError("the verifier returned a Verdict of a tree without `last`, its last accepted token")
        if kernels := small_trees(draft.tokens):
            return cls(*kernels.follow(draft.tokens, paths.parents, draft.lengths, verdict.accepted, last))
        place = (last + 1).clamp(0, paths.width - 1)[:, None]  # [B, 1]
        order = path_order(paths, place)
        depth = paths.depths.gather(1, place)[:, 0]
        fits = (verdict.accepted == depth) & (last >= -1) & (last < draft.lengths)
        return cls(order, draft.tokens.gather(1, order), torch.where(fits, verdict.accepted, -1))

    @property
    def places(self) -> Tensor:
        """[B, n + 1]: the columns of the scored pass, the anchor's first, in this order."""
        return torch.nn.functional.pad(self.order + 1, (1, 0))

    def along(self, columns: Tensor) -> Tensor:
        """Return what stands in the columns [B, n + 1, ...] of the scored pass along the path."""
        index = self.places.view(*self.places.shape, *[1] * (columns.dim() - 2))
        return columns.gather(1, index.expand(*self.places.shape, *columns.shape[2:]))


def path_order(paths: Paths, place: Tensor) -> Tensor:
    """Return the tokens on the path to a place [B, 1], from the anchor on, then each token itself: [B, n]."""
    indices = torch.arange(paths.width - 1, device=place.device)  # [n]
    on_path = paths.seen.gather(1, place[..., None].expand(-1, -1, paths.width))[:, 0, 1:]  # [B, n]
    first = torch.where(on_path, indices, paths.width).sort(dim=1).values  # a path goes up by index
    return torch.where(indices < on_path.sum(1, keepdim=True), first, indices)


def keep_accepted_path(
    target: Target,
    taps: TapDelivery | None,
    context: Context,
    draft: Draft,
    verdict: Verdict,
    logits: Tensor | None,
    reads_logits: bool,
) -> tuple[Draft, Verdict, Tensor | None]:
    """Return a tree's accepted path as a chain's draft, verdict and logits [B, n + 1, V], with its keys moved there.

    `last` of the verdict stays what it was: the index of the tree's token at which the path ends.

    Called before the step is committed: what is drafted ahead writes over the slots of the branches. reads_logits:
    whether anybody reads them besides rows that want scores; if nobody does, they stay as they are.
    """
    path = AcceptedPath.of(draft, verdict)
    assert isinstance(target, ScoresTrees), "it was asked before"
    target.keep_path(context, path.order)
    if taps is not None:
        taps.follow(path.along)
    if logits is not None and (reads_logits or context.settings.likeliest is not None):
        logits = path.along(logits)
    chain = replace(draft, tokens=path.tokens, probabilities=None, parents=None)
    return chain, replace(verdict, accepted=path.accepted), logits
