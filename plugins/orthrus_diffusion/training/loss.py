"""Forward KL from the frozen model to the view, a few rows at a time: no logits are kept, and the teacher's are
projected once for each position. R: rows, L: columns of a row, N: blocks, K: size of a block, V: vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from orthrus_diffusion.training.packing import Batch

Project = Callable[[Tensor], Tensor]  # hidden [..., E] -> logits [..., V]
RowLoss = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor, float], tuple[Tensor, Tensor, Tensor]]


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


class BlockLoss:
    """Compute losses and gradients; compiled: through torch.compile, which joins what happens to each logit."""

    def __init__(self, project: Project, weights: Weights, compiled: bool) -> None:
        self._project = project
        self._weights = weights
        self._rows: RowLoss = torch.compile(self._row_loss, dynamic=False) if compiled else self._row_loss
        self._normal = torch.compile(normalizers, dynamic=False) if compiled else normalizers

    def __call__(
        self, teacher: Tensor, drafted: Tensor, batch: Batch, rows: int, normalizer: float
    ) -> tuple[Tensor, Losses]:
        """Return the gradient [R, N, K, E] of hidden states drafted [R, N, K, E] against teacher [R, L, E]; and sums.

        It takes so many rows at a time.

        normalizer: what the sum is divided by.
        """
        columns, valid = targets(batch, drafted.shape[2])
        gradients, parts = [], []
        for start in range(0, len(drafted), rows):
            part = slice(start, start + rows)
            hidden = drafted[part].detach()[:, :, :-1].contiguous().requires_grad_()
            with torch.no_grad():
                logits = self._project(teacher[part]) / self._weights.temperature  # [r, L, V]
                normal = self._normal(logits)  # [r, L]
            loss, divergence, right = self._rows(hidden, logits, normal, columns[part], valid[part], normalizer)
            loss.backward()  # type: ignore[no-untyped-call]  # torch has no type for it
            gradient = torch.zeros_like(drafted[part])
            assert hidden.grad is not None
            gradient[:, :, :-1] = hidden.grad
            gradients.append(gradient)
            parts.append((loss.detach(), divergence, right))
        losses, divergences, rights = (torch.stack(list(column)).sum(0) for column in zip(*parts, strict=True))
        return torch.cat(gradients), Losses(losses, divergences, rights, valid.sum((0, 1)))

    def _row_loss(
        self, hidden: Tensor, teacher: Tensor, normal: Tensor, columns: Tensor, valid: Tensor, normalizer: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return loss, summed divergence and right [K - 1] of hidden states [r, N, K - 1, E].

        teacher [r, L, V]: logits, normal [r, L]: their normalizers; columns and valid [r, N, K - 1]: which is each
        draft's, and whether it counts.
        """
        row = torch.arange(len(columns), device=columns.device)[:, None, None]
        target = teacher[row, columns].float() - normal[row, columns][..., None]  # [r, N, K - 1, V]
        logits = self._project(hidden).float()
        divergence = (target.exp() * (target - logits)).sum(-1) + logits.logsumexp(-1)  # [r, N, K - 1]
        right = (logits.argmax(-1) == target.argmax(-1)) & (valid > 0)
        right = right.cumprod(-1)  # all drafts up to this one
        before = torch.cat([torch.ones_like(right[..., :1]), right[..., :-1]], -1)
        weights = valid * self._weights.decay ** torch.arange(columns.shape[-1], device=columns.device)
        weights = weights * (1 - self._weights.frontier * (1 - before))
        loss = (divergence * weights).sum() / normalizer
        return loss, (divergence * valid).sum().detach(), right.sum((0, 1))


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
