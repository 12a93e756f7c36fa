"""The drafter `diffusion`: the target's diffusion view proposes a block in one pass. B: rows, K: size of a block."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from orthrus import AutoBlock, BuildError, Chance, Context, Draft, Parts, Step, ViewTarget
from orthrus.sampling import token_probabilities, warp, widen
from orthrus_diffusion.formats import attach
from orthrus_diffusion.options import DiffusionOptions
from orthrus_diffusion.shipped import find_view

VIEW = "diffusion"  # what the view that came with a target is called


class Diffusion:
    """Fill a block of masks after each row's anchor through a view of the target (the paper's section 3).

    The block is the anchor and K - 1 masks at their true positions. Its queries see the committed keys before the
    anchor and all keys of the block, both ways. Row i of the logits predicts the token after position i, as in the
    target, so the last row is not used. A block is shortened to the row's room.
    """

    name = "diffusion"
    needs: frozenset[str] = frozenset({"views"})
    learns = False  # with `auto`, how much of its drafts was accepted

    def __init__(
        self,
        target: ViewTarget,
        block: int,
        mask_token_id: int,
        view: str = VIEW,
        *,
        auto: bool = False,
        notify: Callable[[str], None] = lambda text: None,
    ) -> None:
        """Draft blocks of a size, or with `auto` of any that it chooses up to it."""
        self._target = target
        self._block = block
        self._mask = mask_token_id
        self._view = view
        self.learns = auto
        drafting = ("diffusion", self._draft)
        self._auto = AutoBlock(target, block - 1, drafting=drafting, notify=notify) if auto else None

    def start(self, context: Context, rows: Sequence[int]) -> None:
        """Tell who chooses; all else that is known of a row is in the target's cache."""
        if self._auto:
            self._auto.start(rows)

    def propose(self, context: Context, chance: Chance) -> Draft:
        """Return tokens for the masks, as many as a block and the row's room take: the likeliest, or drawn ones."""
        return self._draft(context, self._auto.choose(context) if self._auto else self._block - 1, chance)

    def _draft(self, context: Context, drafts: int, chance: Chance | None = None) -> Draft:
        width = min(drafts, context.max_room) + 1
        if width < 2:
            return context.empty_draft()
        lengths = context.room.clamp(max=width - 1)  # [B] drafts
        tokens, positions = self.block(context, width, lengths)
        logits = self._target.forward(context, tokens, positions, view=self._view, kind="block")  # [B, width, V]
        spare = width - 1 - lengths[:, None]  # [B, 1] columns before the anchor's
        columns = torch.arange(width - 1, device=context.device) + spare
        if chance is not None and context.sampling.temperature > 0:
            return draw(context, chance, gather_rows(logits, columns.clamp(max=width - 1)), lengths)
        return Draft(logits.argmax(-1).gather(1, columns.clamp(max=width - 1)), lengths, passes=1)

    def block(self, context: Context, width: int, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Return tokens and positions [B, width] of blocks with so many masks, in the last columns of each row."""
        columns = torch.arange(1 - width, 1, device=context.device) + lengths[:, None]  # 0: the anchor's
        tokens = torch.where(columns > 0, self._mask, context.anchors[:, None])
        return tokens, context.lengths[:, None] - 1 + columns.clamp(min=0)

    def observe(self, step: Step) -> None:
        """Tell who chooses."""
        if self._auto:
            self._auto.observe(step)

    def report(self) -> Mapping[str, Any]:
        """Return what `auto` chose."""
        return self._auto.report() if self._auto else {}


def gather_rows(logits: Tensor, columns: Tensor) -> Tensor:
    """Return the logits [B, n, V] in each row's columns [B, n]."""
    return logits.gather(1, columns[..., None].expand(-1, -1, logits.shape[-1]))


def draw(context: Context, chance: Chance, logits: Tensor, lengths: Tensor) -> Draft:
    """Return tokens drawn from logits [B, n, V] with the noise that a coupled verifier draws the target's with.

    Where the view's logits are near the target's, the same noise makes the same choice. probabilities are what the
    tokens were drawn from, for other verifiers.
    """
    logits = warp(logits, context.sampling)
    positions = context.lengths[:, None] + torch.arange(logits.shape[1], device=logits.device)
    noise = chance.gumbel(context.keys, positions, logits.shape[-1])
    probabilities = token_probabilities(logits, context.sampling.temperature)
    return Draft((widen(logits) + noise).argmax(-1), lengths, probabilities, passes=1)


def make(options: DiffusionOptions, parts: Parts) -> Diffusion:
    """Return the drafter with its view attached to the target; raise BuildError or InputError if it cannot be."""
    target: ViewTarget = parts.target
    if "views" not in target.capabilities:
        raise BuildError(
            f"drafter 'diffusion' needs views, which target '{type(target).__name__}' does not offer;"
            " set target.name=transformers"
        )
    directory = find_view(options.view, parts) if options.view is not None else None
    name = f"{VIEW} {directory.resolve()}" if directory else VIEW  # decoders that share a target share its views
    found = attach(target, name, directory, allow_ordinary_mask=options.allow_ordinary_mask)
    auto = options.block == "auto"
    block = found.block if auto or options.block is None else int(options.block)
    return Diffusion(target, block, found.mask_token_id, name, auto=auto, notify=parts.notify)
