"""The drafter `dflash`: a block of masks filled in one pass of a small model, from taps of the target. B: rows."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from torch import Tensor

from orthrus import Chance, Context, Draft, InputError, Parts, Step, TappedStates, Trial, fingerprint_weights
from orthrus.drafter_models.fit import TargetSizes, dtype_of, tapped_target
from orthrus.drafter_models.row_store import RowStore
from orthrus.drafter_models.source import fetch_drafter, head_bytes, share_of_pass
from orthrus.optional import TappedTarget
from orthrus.sampling import draw_draft
from orthrus_dflash.mask_token import check_mask_token
from orthrus_dflash.model import DFlashModel, load_model
from orthrus_dflash.options import DFlashOptions
from orthrus_dflash.trials import trials


class DFlash:
    """Draft what a DFlash checkpoint predicts of the tokens after each row's anchor, all in one pass.

    Its keys and values are of the committed tokens before the anchor, made of the target's hidden states; those of the
    block are written behind them and overwritten by the next cycle. On a GPU both are replayed as CUDA graphs.
    """

    name = "dflash"
    needs: frozenset[str] = frozenset({"hidden_states", "embeddings"})
    learns = False
    moves_rows = True

    def __init__(self, target: TappedTarget, model: DFlashModel, block: int) -> None:
        """Draft blocks of a size, the anchor included, of at most what the model was trained with."""
        self.taps = model.config.taps
        self.block = block
        weights = sum(tensor.nbytes for tensor in model.weights().values())
        self.passes = share_of_pass(weights + (0 if model.has_head else head_bytes(target, model.dtype)), target)
        self._target = target
        self._model = model
        self.rows = RowStore(model.new_store(), model.device)

    def start(self, context: Context, rows: Sequence[int]) -> None:
        """Nothing is to be forgotten: the states of position 0 began these rows anew."""

    def read_taps(self, context: Context, tapped: TappedStates) -> None:
        """Make keys and values of committed tokens."""
        extent = self.rows.hold(context, self.block)
        self.rows.feed(tapped, extent, partial(self._model.feed, self.rows.store))

    def move_rows(self, sources: Sequence[int]) -> None:
        """Take the rows' keys and values along."""
        self.rows.move_rows(sources)

    def propose(self, context: Context, chance: Chance) -> Draft:
        """Return the likeliest tokens of the block, or drawn ones, as many as a row has room for."""
        width = min(self.block - 1, context.max_room)
        if width < 1:
            return context.empty_draft()
        extent = self.rows.hold(context, self.block)
        draws, lengths = context.settings.draws, context.room.clamp(max=width)
        key = "draft", len(context.rows), extent, draws
        function = partial(self._logits if draws else self._tokens, extent)
        (result,) = self.rows.call(key, function, context.anchors, context.lengths, context.room)
        if draws:
            return draw_draft(context, chance, result[:, :width], lengths, self.passes)
        return Draft(result[:, :width], lengths, passes=self.passes)

    def observe(self, step: Step) -> None:
        """What it needs came with the taps."""

    def fingerprint(self) -> str:
        """Return the fingerprint of the drafter's weights."""
        return fingerprint_weights(self._model.weights().items())

    def trials(self) -> list[Trial]:
        """Return what could be set wrongly."""
        return list(trials(self._model.config, self._model.dtype, self._target))

    def _logits(self, extent: int, anchors: Tensor, lengths: Tensor, room: Tensor) -> tuple[Tensor]:
        return (self._draft(extent, anchors, lengths, room)[1],)

    def _tokens(self, extent: int, anchors: Tensor, lengths: Tensor, room: Tensor) -> tuple[Tensor]:
        return (self._draft(extent, anchors, lengths, room)[0],)

    def _draft(self, extent: int, anchors: Tensor, lengths: Tensor, room: Tensor) -> tuple[Tensor, Tensor]:
        """Return tokens [B, block - 1] and their logits, of rows with so many tokens, the newest of which is given.

        A row's block ends where its room does, as in the reference: where rows of a block see each other, a shorter one
        drafts other tokens.
        """
        target, store, before = self._target, self.rows.store, lengths - 1
        widths = (room + 1).clamp(max=self.block)
        return self._model.draft(
            store, anchors, before, target.embed, target.head, block=self.block, widths=widths, extent=extent
        )


def make(options: DFlashOptions, parts: Parts) -> DFlash:
    """Return the drafter; raise BuildError or InputError if its files cannot be used with the target."""
    target = tapped_target(parts.target, "dflash")
    directory = fetch_drafter(options.source, parts)
    sizes = TargetSizes.of(target)
    dtype = dtype_of(options.dtype, target)
    model = load_model(directory, sizes, options, dtype, target.device)
    config = model.config
    check_mask_token(config.mask_token_id, target.tokenizer, options.source, allow_ordinary=options.allow_ordinary_mask)
    if options.block is not None and options.block > config.block:
        raise InputError(
            f"drafter.block: '{options.source}' was trained with blocks of {config.block}; {options.block} is more"
        )
    return DFlash(target, model, options.block or config.block)
