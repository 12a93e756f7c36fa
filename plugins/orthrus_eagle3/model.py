"""The model of an EAGLE-3 drafter. B: rows of a batch, R: some of them, n: tokens, T: taps, h_t: the target's hidden
size, h: the drafter's, V: vocabulary, Vd: the drafter's.

It holds weights alone: what belongs to the rows is in the store, `KeyValues`, that every call is given. Nothing waits
for the host, and shapes depend on arguments of Python alone, so that `feed` and `draft` can be captured in CUDA graphs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import embedding, linear, rms_norm

from orthrus.drafter_models import narrow
from orthrus.drafter_models.fit import TargetSizes
from orthrus.drafter_models.key_values import KeyValues
from orthrus.drafter_models.vocabulary import spread, target_ids
from orthrus_eagle3.config import Eagle3Config
from orthrus_eagle3.layer import Layer, LayerWeights
from orthrus_eagle3.layouts import read_config
from orthrus_eagle3.options import Eagle3Options
from orthrus_eagle3.weights import EMBEDDING, read_weights

Embed = Callable[[Tensor], Tensor]  # token ids [B, n] to rows [B, n, h] as the target stores them
CHUNK = 256  # positions that go through the layer at once: a mask is as large as all of these by all slots
Choose = Callable[[Tensor, int], Tensor]  # logits [B, V] of a step and its number to tokens [B]


class Eagle3Model:
    """Draft token by token, each step from the token before and the feature that led to it.

    `config.taps` says what is to be tapped, in which order; they are concatenated to [R, n, T h_t]. The drafter's row i
    is the taps of position i beside the embedding of token i + 1. Per cycle: `feed` the rows of the positions that were
    committed, which are those before the newest token, then `draft`: the row before the newest token drafts the token
    after it.
    """

    def __init__(self, config: Eagle3Config, tensors: Mapping[str, Tensor]) -> None:
        """Take a checkpoint's tensors, by the names of `weights.expected_shapes`."""
        self.config = config
        self._tensors = dict(tensors)
        self._layer = Layer(LayerWeights.of(tensors, config), config)
        self._project, self._norm, self._head = (tensors[f"{name}.weight"] for name in ("fc", "norm", "lm_head"))
        self._embedding = tensors.get(EMBEDDING)
        self._taps_norm = tensors.get("input_norm.weight")
        norms = [tensors[f"fc_norm.{index}.weight"] for index in range(len(config.taps))] if config.norm_taps else []
        self._tap_norms = torch.stack(norms) if norms else None  # [T, h_t]
        self._ids = target_ids(tensors["d2t"], config.vocabulary_size) if config.reduced else None  # [Vd]

    @property
    def dtype(self) -> torch.dtype:
        """Return the dtype of the weights."""
        return self._project.dtype

    @property
    def device(self) -> torch.device:
        """Return the device of the weights."""
        return self._project.device

    @property
    def embeds_itself(self) -> bool:
        """Return whether the checkpoint brings its embeddings, so that the target's are not asked for."""
        return self._embedding is not None

    def new_store(self, rows: int = 0, slots: int = 0) -> KeyValues:
        """Return an empty store for so many rows and slots: a row's length, with the drafts of a cycle."""
        config = self.config
        store = KeyValues(
            1, config.key_heads, config.head_size, config.hidden_size, config.rotary, self.dtype, self.device
        )
        store.hold(rows, slots)
        return store

    def project(self, taps: Tensor) -> Tensor:
        """Return the features [R, n, h] that the layer is given of taps [R, n, T h_t]."""
        taps = taps.to(self.dtype)
        if self._taps_norm is not None:
            taps = rms_norm(taps, taps.shape[-1:], self._taps_norm, self.config.epsilon)
        if self._tap_norms is not None:
            each = taps.view(*taps.shape[:-1], *self._tap_norms.shape)
            taps = (rms_norm(each, each.shape[-1:], None, self.config.epsilon) * self._tap_norms).flatten(-2)
        return self._product(taps, self._project)

    def feed(
        self,
        store: KeyValues,
        taps: Tensor,
        tokens: Tensor,
        starts: Tensor,
        counts: Tensor,
        embed: Embed,
        rows: Tensor | None = None,
        *,
        extent: int | None = None,
    ) -> None:
        """Take rows of committed positions: taps [R, n, T h_t] of those from starts [R] on, with the tokens after them.

        tokens [R, n]: each position's next token, so that the last one is the row's newest token. counts [R]: how many
        of the n count; a row with 0 stays as it is. rows [R]: which rows; None: the first R. A prompt may come whole or
        in chunks, once each chunk's next token is known. extent: slots that are read, at least the longest of starts +
        counts; None: all. What a row had at these positions and beyond is overwritten or no longer read.
        """
        extent = store.slots if extent is None else extent
        for first in range(0, taps.shape[1], CHUNK):
            part = slice(first, first + CHUNK)
            left = (counts - first).clamp(0, CHUNK)
            features = self.project(taps[:, part])
            output = self._rows_after(
                store, features, self._embed(tokens[:, part], embed), starts + first, left, rows, extent
            )
            held = store.features[: len(starts)] if rows is None else store.features[rows]
            newest = output.gather(1, (left - 1).clamp(min=0)[:, None, None].expand(-1, 1, output.shape[-1]))[:, 0]
            kept = torch.where(left[:, None] > 0, newest, held)  # [R, h]
            store.features[slice(len(starts)) if rows is None else rows] = kept

    def _rows_after(
        self,
        store: KeyValues,
        features: Tensor,
        embedded: Tensor,
        starts: Tensor,
        counts: Tensor,
        rows: Tensor | None,
        extent: int,
    ) -> Tensor:
        """Return the layer's output [R, n, h] of rows that begin at starts [R], of which counts [R] count."""
        width = features.shape[1]
        positions = starts[:, None] + torch.arange(width, device=starts.device)  # [R, n]
        # columns that do not count see what the last one that counts does, so that nothing is undefined
        last = torch.minimum(positions, (starts + counts - 1).clamp(min=0)[:, None])
        mask = torch.arange(extent, device=starts.device) <= last[..., None]  # [R, n, E]
        slots, angles = store.places(starts, counts, width), store.rotary.at(positions)
        return self._layer.forward(embedded, features, angles, self._layer.mask(mask), store, slots, rows)

    def draft(
        self,
        store: KeyValues,
        lengths: Tensor,
        embed: Embed,
        length: int,
        *,
        choose: Choose | None = None,
        wide: bool = True,
        extent: int | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return drafts [B, length] in the target's vocabulary and their logits [B, length, V].

        lengths [B]: how many rows `feed` has had of each, which is the newest token's position; of every row at least
        one. choose: what draws a step's tokens of its logits [B, V]; None: the likeliest. wide: give logits over the
        target's vocabulary, -inf for tokens that the drafter does not know; else over its own [B, length, Vd]. extent:
        slots that are read, at least the longest of lengths + length - 1; None: all. Only slots from lengths on are
        written, and nothing that the next `feed` relies on.
        """
        extent = store.slots if extent is None else extent
        feature = store.features[: len(lengths), None]  # [B, 1, h]
        positions = lengths[:, None] + torch.arange(length - 1, device=lengths.device)  # [B, length - 1]
        cosines, sines = store.rotary.at(positions + self.config.position_offset)
        slots = store.places(lengths, torch.full_like(lengths, length - 1), length - 1)
        mask = self._layer.mask(torch.arange(extent, device=lengths.device) <= positions[..., None])
        tokens: list[Tensor] = []
        logits: list[Tensor] = []
        for step in range(length):
            if step > 0:
                column = slice(step - 1, step)
                embedded = self._embed(tokens[-1][:, None], embed)
                angles, seen = (cosines[:, :, column], sines[:, :, column]), mask[:, :, column]
                feature = self._layer.forward(embedded, feature, angles, seen, store, slots[:, column])
            normed = rms_norm(feature, feature.shape[-1:], self._norm, self.config.epsilon)
            own = self._product(normed, self._head)[:, 0]  # [B, Vd]
            if self.config.norm_output:
                feature = normed
            full = self._widened(own) if wide or choose is not None else own
            tokens.append(self._likeliest(own) if choose is None else choose(full, step))
            logits.append(full if wide else own)
        return torch.stack(tokens, dim=1), torch.stack(logits, dim=1)

    def weights(self) -> dict[str, Tensor]:
        """Return all weights by name, without the map between the vocabularies."""
        return {name: tensor for name, tensor in self._tensors.items() if name != "d2t"}

    def _product(self, states: Tensor, weight: Tensor) -> Tensor:
        """Return states [R, n, E] times weight [N, E], transposed."""
        return narrow.product(states, weight) if narrow.fits(states, weight) else linear(states, weight)

    def _embed(self, tokens: Tensor, embed: Embed) -> Tensor:
        rows = embed(tokens) if self._embedding is None else embedding(tokens, self._embedding)
        return rows.to(self.dtype)

    def _widened(self, logits: Tensor) -> Tensor:
        return logits if self._ids is None else spread(logits, self._ids, self.config.vocabulary_size)

    def _likeliest(self, logits: Tensor) -> Tensor:
        """Return the likeliest tokens [B] of logits [B, Vd], in the target's vocabulary."""
        chosen = logits.argmax(-1)
        return chosen if self._ids is None else self._ids[chosen]


def load_model(
    directory: Path, target: TargetSizes, options: Eagle3Options, dtype: torch.dtype, device: torch.device | str
) -> Eagle3Model:
    """Return the drafter in a directory for a target of these sizes.

    Raises InputError for a checkpoint that is damaged, of another kind or leaves open what the options do not say, and
    BuildError for one that was made for another target.
    """
    config = read_config(directory, target, options)
    return Eagle3Model(config, read_weights(directory, config, dtype, device))
