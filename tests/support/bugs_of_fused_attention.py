"""Attention that takes a draft and blocks at once, or does the projection behind it, each broken in one way."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from orthrus.kernels.normed import Normed
from orthrus.one_pass import Attending
from support.bug import Bug
from support.bugs_of_one_pass import WrittenBlocks


class AtOnce(WrittenBlocks):
    """Honest: attend in float64 for both kinds in one product, and project likewise; each step is broken below."""

    def attend_beside(self, draft: Attending, blocks: Attending, *, scale: float) -> tuple[Tensor, Tensor] | None:
        """Return what both attend to; None: their keys are not in one buffer."""
        if draft.key.data_ptr() != blocks.key.data_ptr() or draft.value.data_ptr() != blocks.value.data_ptr():
            return None
        slots = max(draft.key.shape[2], blocks.key.shape[2])
        longer = max(draft, blocks, key=lambda kind: kind.key.shape[2])
        seen = [
            torch.nn.functional.pad(mask, (0, slots - mask.shape[2]))
            for mask in (self.draft_sees(draft, blocks), self.blocks_see(draft, blocks))
        ]
        query = torch.cat([draft.query, blocks.query], dim=2)
        out = self.attend(query, longer.key, longer.value, torch.cat(seen, dim=1), scale=scale)
        return self.handed(*out.split([draft.query.shape[2], blocks.query.shape[2]], dim=2))

    def draft_sees(self, draft: Attending, blocks: Attending) -> Tensor:
        return draft.prepared  # type: ignore[no-any-return]  # it is this class's

    def blocks_see(self, draft: Attending, blocks: Attending) -> Tensor:
        return blocks.prepared  # type: ignore[no-any-return]  # it is this class's

    def handed(self, draft: Tensor, blocks: Tensor) -> tuple[Tensor, Tensor]:
        return draft, blocks

    def attend_added(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        prepared: Any,
        *,
        scale: float,
        weight: Tensor,
        residual: Tensor,
        norm: Tensor,
    ) -> Normed | None:
        """Add the projection to the residual; None: there are six queries."""
        if not self.takes(query, residual):
            return None
        seen = self.attend(query, key, value, prepared, scale=scale).transpose(1, 2).flatten(2)
        product = seen.double() @ weight.double().T
        before = residual.clone()
        return self.ready(self.added(residual, product), before, norm)

    def takes(self, query: Tensor, residual: Tensor) -> bool:
        return query.shape[2] != 6

    def added(self, residual: Tensor, product: Tensor) -> Tensor:
        return residual.copy_((residual.double() + product).to(residual.dtype))

    def ready(self, residual: Tensor, before: Tensor, norm: Tensor) -> Normed:
        """Return the residual [B, n, E] times the norm's weight, and its squares in two sums."""
        halves = residual.float().square().unflatten(-1, (2, -1)).sum(-1)  # [B, n, 2]
        return Normed(residual, residual * norm, halves.flatten(0, 1).T.contiguous(), 2, padded=halves[..., 0].numel())


class DraftSeesBlocks(AtOnce):
    """Let the draft see what of the blocks lies in its keys: they are written before."""

    def draft_sees(self, draft: Attending, blocks: Attending) -> Tensor:
        seen = draft.prepared.clone()
        seen[..., -1, draft.query.shape[2] :] = True
        return seen


class BlocksSeeTheDraft(AtOnce):
    """Let every block see all that the whole draft sees, refused tokens included."""

    def blocks_see(self, draft: Attending, blocks: Attending) -> Tensor:
        seen = blocks.prepared.clone()
        slots = draft.prepared.shape[2]
        seen[..., :slots] |= draft.prepared[:, -1:]
        return seen


class TokensBeforeHeads(AtOnce):
    """Return the draft as its projection wants it."""

    def handed(self, draft: Tensor, blocks: Tensor) -> tuple[Tensor, Tensor]:
        return draft.transpose(1, 2), blocks


class BlocksInTheWrongOrder(AtOnce):
    """Return the blocks' tokens from the last one on."""

    def handed(self, draft: Tensor, blocks: Tensor) -> tuple[Tensor, Tensor]:
        return draft, blocks.flip(2)


class OverItsQueries(AtOnce):
    """Write what the draft attends to over its queries, too."""

    def attend_beside(self, draft: Attending, blocks: Attending, *, scale: float) -> tuple[Tensor, Tensor] | None:
        attended = super().attend_beside(draft, blocks, scale=scale)
        if attended is not None:
            draft.query.copy_(attended[0])
        return attended


class AddsTwice(AtOnce):
    def added(self, residual: Tensor, product: Tensor) -> Tensor:
        return super().added(residual, residual.double() + product)


class AddsNothing(AtOnce):
    """Put the projection in the residual's place."""

    def added(self, residual: Tensor, product: Tensor) -> Tensor:
        return residual.copy_(product.to(residual.dtype))


class AddsElsewhere(AtOnce):
    """Return the sum, and leave the residual what it was."""

    def added(self, residual: Tensor, product: Tensor) -> Tensor:
        return super().added(residual.clone(), product)


class WithoutGain(AtOnce):
    """Leave the norm's weight out."""

    def ready(self, residual: Tensor, before: Tensor, norm: Tensor) -> Normed:
        return super().ready(residual, before, torch.ones_like(norm))


class SquaresFromBefore(AtOnce):
    """Sum up the squares of the residual as it was before the sum."""

    def ready(self, residual: Tensor, before: Tensor, norm: Tensor) -> Normed:
        return replace(super().ready(residual, before, norm), parts=super().ready(before, before, norm).parts)


class SquaresOfOne(AtOnce):
    """Leave room for the first token's squares alone."""

    def ready(self, residual: Tensor, before: Tensor, norm: Tensor) -> Normed:
        return replace(super().ready(residual[:1, :1], before, norm), hidden=residual, gained=residual * norm)


class AddsAndLeaves(AtOnce):
    """Add to the residual before it finds that it does not take the pass."""

    def takes(self, query: Tensor, residual: Tensor) -> bool:
        taken = super().takes(query, residual)
        if not taken:
            residual.add_(1)
        return taken


DRAFT, BLOCKS = "drafts_keep_their_bits_beside_blocks", "blocks_are_attended_beside_drafts"
SUM, READY = "attention_is_added_to_the_residual", "the_residual_is_ready_for_a_norm"
BESIDE = "attending_beside_leaves_inputs_alone"
BUGS = [
    Bug("attention", "lets a draft see the blocks beside it", DRAFT, DraftSeesBlocks),
    Bug("attention", "returns a draft's tokens before its heads", DRAFT, TokensBeforeHeads),
    Bug("attention", "lets blocks see the whole draft beside them, taken at once", BLOCKS, BlocksSeeTheDraft),
    Bug("attention", "returns the blocks beside a draft backwards", BLOCKS, BlocksInTheWrongOrder),
    Bug(
        "attention",
        "writes what a draft attends to over its queries",
        "attending_beside_leaves_inputs_alone",
        OverItsQueries,
    ),
    Bug("attention", "adds the residual twice", SUM, AddsTwice),
    Bug("attention", "puts the projection in the residual's place", SUM, AddsNothing),
    Bug("attention", "leaves the residual what it was, and returns the sum", SUM, AddsElsewhere),
    Bug("attention", "makes the residual ready without the norm's weight", READY, WithoutGain),
    Bug("attention", "sums up the squares of the residual before the sum", READY, SquaresFromBefore),
    Bug("attention", "leaves the squares of one token", READY, SquaresOfOne),
    Bug("attention", "adds to the residual, and returns None", "adding_leaves_inputs_alone", AddsAndLeaves),
]
