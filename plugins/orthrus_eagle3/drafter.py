"""The drafter `eagle3`: a chain of tokens, each from the one before and the feature that led to it. B: rows."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from orthrus import Chance, Context, Draft, Parts, Step, TappedStates, Trial, fingerprint_weights
from orthrus.drafter_models.fit import TargetSizes, dtype_of, tapped_target
from orthrus.drafter_models.row_store import RowStore
from orthrus.drafter_models.source import fetch_drafter, share_of_pass
from orthrus.optional import TappedTarget
from orthrus.sampling import add_noise, row_probabilities, warp_draft
from orthrus_eagle3.model import Eagle3Model, load_model
from orthrus_eagle3.options import Eagle3Options
from orthrus_eagle3.trials import trials
from orthrus_eagle3.weights import EMBEDDING


class Eagle3:
    """Draft a chain with an EAGLE-3 head.

    Its keys and values are of the committed tokens before the anchor, made of the target's hidden states and of the
    token after each; those of its own steps are written behind them and overwritten by the next cycle. On a GPU both
    are replayed as CUDA graphs, but for drafts that are drawn.
    """

    name = "eagle3"
    needs: frozenset[str] = frozenset({"hidden_states", "embeddings"})
    learns = False
    prefix_consistent = True
    moves_rows = True

    def __init__(self, target: TappedTarget, model: Eagle3Model, length: int) -> None:
        """Draft so many tokens a cycle."""
        self.taps = model.config.taps
        self.length = length
        read = sum(tensor.nbytes for name, tensor in model.weights().items() if name != EMBEDDING)
        self.passes = length * share_of_pass(read, target)
        self._target = target
        self._model = model
        self.rows = RowStore(model.new_store(), model.device)

    def start(self, context: Context, rows: Sequence[int]) -> None:
        """Nothing is to be forgotten: the states of position 0 began these rows anew."""

    def read_taps(self, context: Context, tapped: TappedStates) -> None:
        """Make keys and values of committed tokens, and the feature of the last one."""
        extent = self.rows.hold(context, self.length)
        texts = context.tokens if tapped.rows is None else context.tokens[tapped.rows]
        places = tapped.starts[:, None] + torch.arange(1, tapped.states.shape[1] + 1, device=texts.device)
        following = texts.gather(1, places.clamp(max=texts.shape[1] - 1))  # [R, n]: the token after each

        def feed(states: Tensor, starts: Tensor, counts: Tensor, tokens: Tensor, rows: Tensor | None = None) -> None:
            store = self.rows.store
            self._model.feed(store, states, tokens, starts, counts, self._target.embed, rows, extent=extent)

        self.rows.feed(tapped, extent, feed, following)

    def move_rows(self, sources: Sequence[int]) -> None:
        """Take the rows' keys, values and features along."""
        self.rows.move_rows(sources)

    def propose(self, context: Context, chance: Chance) -> Draft:
        """Return a chain of the likeliest tokens, or of drawn ones, as long as a row has room for."""
        width = min(self.length, context.max_room)
        if width < 1:
            return context.empty_draft()
        extent, lengths = self.rows.hold(context, self.length), context.room.clamp(max=width)
        if context.settings.draws:
            return self._drawn(context, chance, extent, width, lengths)
        key = "draft", len(context.rows), extent
        (tokens,) = self.rows.call(key, partial(self._likeliest, extent), context.lengths)
        return Draft(tokens[:, :width], lengths, passes=self.passes)

    def observe(self, step: Step) -> None:
        """What it needs came with the taps."""

    def fingerprint(self) -> str:
        """Return the fingerprint of the drafter's weights."""
        return fingerprint_weights(self._model.weights().items())

    def trials(self) -> list[Trial]:
        """Return what could be set wrongly."""
        return list(trials(self._model.config, self._model.dtype, self._target))

    def _likeliest(self, extent: int, lengths: Tensor) -> tuple[Tensor]:
        """Return the tokens [B, length] after rows of so many tokens."""
        embed, store = self._target.embed, self.rows.store
        return (self._model.draft(store, lengths - 1, embed, self.length, wide=False, extent=extent)[0],)

    def _drawn(self, context: Context, chance: Chance, extent: int, width: int, lengths: Tensor) -> Draft:
        """Draw each token with the noise that a coupled verifier draws the target's with."""

        def choose(logits: Tensor, step: int) -> Tensor:
            processed = warp_draft(context, logits[:, None])  # [B, 1, V]
            return add_noise(context, processed, chance, step).argmax(-1)[:, 0]

        tokens, logits = self._model.draft(
            self.rows.store, context.lengths - 1, self._target.embed, width, choose=choose, extent=extent
        )
        probabilities = row_probabilities(context, warp_draft(context, logits))
        return Draft(tokens, lengths, probabilities, passes=self.passes * width / self.length)


def make(options: Eagle3Options, parts: Parts) -> Eagle3:
    """Return the drafter; raise BuildError or InputError if its files cannot be used with the target."""
    target = tapped_target(parts.target, "eagle3")
    directory = fetch_drafter(options.source, parts)
    sizes = TargetSizes.of(target)
    dtype = dtype_of(options.dtype, target)
    return Eagle3(target, load_model(directory, sizes, options, dtype, target.device), options.length)
