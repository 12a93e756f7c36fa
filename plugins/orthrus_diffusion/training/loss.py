"""Forward KL from the frozen model to the view and its successor head, a few rows at a time: no logits are kept, and
the teacher's are projected once for each position. R: rows, L: columns of a row, N: blocks, K: size of a block,
E: hidden size, V: vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from orthrus_diffusion.successor import SuccessorHead
from orthrus_diffusion.training.packing import Batch

Project = Callable[..., Tensor]  # hidden [..., E], and perhaps a correction of it [..., E] -> logits [..., V]
Sums = tuple[Tensor, Tensor, Tensor]  # loss, divergence, right [K - 1]
RowLoss = Callable[..., list[Sums]]


@dataclass(frozen=True)
class Weights:
    """The weights of drafts: decay, of each over the one before it; frontier, taken off behind a wrong one.

    temperature: of the frozen model's probabilities, which the view learns.
    """

    decay: float
    frontier: float
    temperature: float = 1.0


@dataclass(frozen=True, eq=False)
class Losses:
    """Sums over the drafts of a batch, for the metrics.

    right [K - 1]: blocks whose drafts up to each are all the model's likeliest; counted [K - 1]: blocks that reach it.
    """

    loss: Tensor
    divergence: Tensor
    right: Tensor
    counted: Tensor


class BlockLosses(NamedTuple):
    """What was lost by the view's drafts, and by those that its successor head makes of them; None: not asked for."""

    view: Losses | None
    successor: Losses | None


@dataclass(frozen=True, eq=False)
class Following:
    """A successor head in training. embed: gives the embeddings [..., E] of the tokens [...] that drafts follow."""

    head: SuccessorHead
    embed: Callable[[Tensor], Tensor]


class BlockLoss:
    """Compute losses and gradients; compiled: through torch.compile, which joins what happens to each logit.

    following: the head that is trained, too; each draft follows the answer's own token. view: whether the view is.
    """

    def __init__(
        self,
        project: Project,
        weights: Weights,
        compiled: bool,
        following: Following | None = None,
        view: bool = True,
    ) -> None:
        self._project = project
        self._weights = weights
        self._following = following
        self._view = view
        self._rows: RowLoss = torch.compile(self._row_loss, dynamic=False) if compiled else self._row_loss
        self._normal = torch.compile(normalizers, dynamic=False) if compiled else normalizers

    def __call__(
        self, teacher: Tensor, drafted: Tensor, batch: Batch, rows: int, normalizer: float
    ) -> tuple[Tensor | None, BlockLosses]:
        """Return the gradient [R, N, K, E] of hidden states drafted [R, N, K, E] against teacher [R, L, E]; and sums.

        It takes so many rows at a time. The gradient is None where the view is not trained; that of a head's weights is
        added to theirs. normalizer: what the sum is divided by.
        """
        columns, valid = targets(batch, drafted.shape[2])
        before = None if self._following is None else tokens_before(batch, columns)
        gradients, parts = [], []
        for start in range(0, len(drafted), rows):
            part = slice(start, start + rows)
            hidden = drafted[part].detach()[:, :, :-1].contiguous().requires_grad_(self._view)
            with torch.no_grad():
                logits = self._project(teacher[part]) / self._weights.temperature  # [r, L, V]
                normal = self._normal(logits)  # [r, L]
                followed = None if before is None or self._following is None else self._following.embed(before[part])
            sums = self._rows(hidden, logits, normal, columns[part], valid[part], normalizer, followed)
            _total(sums).backward()
            parts.append([tuple(value.detach() for value in values) for values in sums])
            if hidden.grad is not None:
                gradient = torch.zeros_like(drafted[part])
                gradient[:, :, :-1] = hidden.grad
                gradients.append(gradient)
        losses = [_summed(some, valid) for some in zip(*parts, strict=True)]
        view = losses[0] if self._view else None
        successor = losses[-1] if self._following is not None else None
        return torch.cat(gradients) if gradients else None, BlockLosses(view, successor)

    def _row_loss(
        self,
        hidden: Tensor,
        teacher: Tensor,
        normal: Tensor,
        columns: Tensor,
        valid: Tensor,
        normalizer: float,
        followed: Tensor | None,
    ) -> list[Sums]:
        """Return the sums of hidden states [r, N, K - 1, E]: the view's, and those of its successor head.

        teacher [r, L, V]: logits, normal [r, L]: their normalizers; columns and valid [r, N, K - 1]: which is each
        draft's, and whether it counts. followed [r, N, K - 1, E]: embeddings of the tokens that drafts follow.
        """
        row = torch.arange(len(columns), device=columns.device)[:, None, None]
        target = teacher[row, columns].float() - normal[row, columns][..., None]  # [r, N, K - 1, V]
        sums = [self._sums(self._project(hidden).float(), target, valid, normalizer)] if self._view else []
        if followed is not None and self._following is not None:
            correction = self._following.head.corrections(followed, hidden)
            sums.append(self._sums(self._project(hidden, correction).float(), target, valid, normalizer))
        return sums

    def _sums(self, logits: Tensor, target: Tensor, valid: Tensor, normalizer: float) -> Sums:
        """Return loss, summed divergence and right [K - 1] of logits against log-probabilities [r, N, K - 1, V]."""
        divergence = (target.exp() * (target - logits)).sum(-1) + logits.logsumexp(-1)  # [r, N, K - 1]
        right = (logits.argmax(-1) == target.argmax(-1)) & (valid > 0)
        right = right.cumprod(-1)  # all drafts up to this one
        before = torch.cat([torch.ones_like(right[..., :1]), right[..., :-1]], -1)
        weights = valid * self._weights.decay ** torch.arange(valid.shape[-1], device=valid.device)
        weights = weights * (1 - self._weights.frontier * (1 - before))
        loss = (divergence * weights).sum() / normalizer
        return loss, (divergence * valid).sum(), right.sum((0, 1))


def _total(sums: Sequence[Sums]) -> Any:
    return torch.stack([loss for loss, _, _ in sums]).sum()


def _summed(parts: Sequence[tuple[Tensor, ...]], valid: Tensor) -> Losses:
    loss, divergence, right = (torch.stack(list(column)).sum(0) for column in zip(*parts, strict=True))
    return Losses(loss, divergence, right, valid.sum((0, 1)))


def normalizers(logits: Tensor) -> Tensor:
    """Return the logarithm of the sum of the exponentials of logits [..., V], in float32 at least."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32)).logsumexp(-1)


def targets(batch: Batch, size: int) -> tuple[Tensor, Tensor]:
    """Return the column whose logits each draft should have, and 1 or 0 for whether there is one: [R, N, K - 1] each.

    Row i of a block predicts the token after column anchor + i, as the model does there; the last row is not used.
    """
    columns = batch.anchors[..., None] + torch.arange(size - 1, device=batch.anchors.device)
    ends = batch.ends.gather(1, batch.anchors)[..., None]
    valid = (columns + 1 < ends) * batch.used[..., None]
    return columns.clamp(max=batch.ends.shape[1] - 1), valid


def tokens_before(batch: Batch, columns: Tensor) -> Tensor:
    """Return the tokens [R, N, K - 1] that drafts follow in the answer: those in the columns of their targets."""
    return batch.rows.token_ids.gather(1, columns.flatten(1)).view_as(columns)
