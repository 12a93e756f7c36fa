"""The drafter `diffusion`: the target's diffusion view proposes a block in one pass. B: rows, K: size of a block."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from orthrus import AutoBlock, BuildError, Chance, Context, Draft, Parts, Step, ViewTarget
from orthrus_diffusion.formats import attach
from orthrus_diffusion.options import DiffusionOptions

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
        """Return each row's likeliest tokens for the masks, as many as a block and the row's room take."""
        return self._draft(context, self._auto.choose(context) if self._auto else self._block - 1)

    def _draft(self, context: Context, drafts: int) -> Draft:
        width = min(drafts, context.max_room) + 1
        if width < 2:
            return context.empty_draft()
        lengths = context.room.clamp(max=width - 1)  # [B] drafts
        tokens, positions = self.block(context, width, lengths)
        logits = self._target.forward(context, tokens, positions, view=self._view, kind="block")  # [B, width, V]
        spare = width - 1 - lengths[:, None]  # [B, 1] columns before the anchor's
        columns = torch.arange(width - 1, device=context.device) + spare
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


def make(options: DiffusionOptions, parts: Parts) -> Diffusion:
    """Return the drafter with its view attached to the target; raise BuildError or InputError if it cannot be."""
    target: ViewTarget = parts.target
    if "views" not in target.capabilities:
        raise BuildError(
            f"drafter 'diffusion' needs views, which target '{type(target).__name__}' does not offer;"
            " set target.name=transformers"
        )
    directory = _expanded(options.view) if options.view is not None else None
    name = f"{VIEW} {directory.resolve()}" if directory else VIEW  # decoders that share a target share its views
    found = attach(target, name, directory)
    auto = options.block == "auto"
    block = found.block if auto or options.block is None else int(options.block)
    return Diffusion(target, block, found.mask_token_id, name, auto=auto, notify=parts.notify)


def _expanded(text: str) -> Path:
    try:
        return Path(text).expanduser()
    except RuntimeError:  # there is no such user; then there is no such path
        return Path(text)
