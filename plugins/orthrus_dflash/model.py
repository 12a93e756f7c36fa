"""The model of a DFlash drafter. B: rows of a batch, R: some of them, n: tokens, T: taps, h: hidden size, K: width of
the block, V: vocabulary.

It holds weights alone: what belongs to the rows is in the store, `KeyValues`, that every call is given. Nothing waits
for the host, and shapes depend on arguments of Python alone, so that `feed` and `draft` can be captured in CUDA graphs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import linear, pad, rms_norm

from orthrus.drafter_models import narrow
from orthrus.drafter_models.attention import attention_mask
from orthrus.drafter_models.fit import TargetSizes
from orthrus.drafter_models.key_values import KeyValues
from orthrus.drafter_models.vocabulary import spread, target_ids
from orthrus.kernels import small_ops
from orthrus_dflash.config import DFlashConfig
from orthrus_dflash.layers import Layer, stack_layer
from orthrus_dflash.layouts import read_config
from orthrus_dflash.options import DFlashOptions
from orthrus_dflash.visibility import block_mask
from orthrus_dflash.weights import read_weights

Embed = Callable[[Tensor], Tensor]  # token ids [B, n] to rows [B, n, h] as the target stores them
Head = Callable[[Tensor], Tensor]  # states after a final norm [B, n, h] to logits [B, n, V]


class DFlashModel:
    """Draft the tokens after an anchor in one pass, from taps of the target at the positions before it.

    `config.taps` says what is to be tapped, in which order; they are concatenated to [R, n, T h]. Per cycle: `feed` the
    taps of the positions that were committed, which are those before the newest token, then `draft` from that token.
    """

    def __init__(self, config: DFlashConfig, tensors: Mapping[str, Tensor]) -> None:
        """Take a checkpoint's tensors, by the names of `weights.expected_shapes`."""
        held = dict(tensors)
        self.config = config
        self._project, self._context_norm, self._norm = (
            held.pop(f"{name}.weight") for name in ("fc", "hidden_norm", "norm")
        )
        self._head = held.pop("lm_head.weight", None)
        offsets = held.pop("d2t", None)
        self._ids = None if offsets is None else target_ids(offsets, config.vocabulary_size)  # [Vd]
        self._layers = [Layer(index, stack_layer(held, index, config), config) for index in range(len(config.layers))]

    @property
    def dtype(self) -> torch.dtype:
        """Return the dtype of the weights."""
        return self._project.dtype

    @property
    def device(self) -> torch.device:
        """Return the device of the weights."""
        return self._project.device

    @property
    def has_head(self) -> bool:
        """Return whether the checkpoint brings a head, so that the target's is not asked for."""
        return self._head is not None

    def new_store(self, rows: int = 0, slots: int = 0) -> KeyValues:
        """Return an empty store for so many rows and slots: a row's length, with the block of `draft`."""
        config = self.config
        store = KeyValues(
            len(config.layers), config.key_heads, config.head_size, 0, config.rotary, self.dtype, self.device
        )
        store.hold(rows, slots)
        return store

    def context(self, taps: Tensor) -> Tensor:
        """Return what every layer reads of positions [R, n, h], from their taps [R, n, T h]."""
        taps = taps.to(self.dtype)
        if narrow.fits(taps, self._project):
            return small_ops.rms_norm(narrow.product(taps, self._project), self._context_norm, self.config.epsilon)
        projected = linear(taps, self._project)
        return rms_norm(projected, projected.shape[-1:], self._context_norm, self.config.epsilon)

    def feed(self, store: KeyValues, taps: Tensor, starts: Tensor, counts: Tensor, rows: Tensor | None = None) -> None:
        """Write keys and values of committed positions: taps [R, n, T h] of those from starts [R] on.

        counts [R]: how many of the n count; the others are left out. rows [R]: which rows; None: the first R. A prompt
        may come whole or in chunks. What a row had at these positions and beyond is overwritten or no longer read.
        """
        context = self.context(taps)
        positions = starts[:, None] + torch.arange(taps.shape[1], device=starts.device)
        angles, slots = store.rotary.at(positions), store.places(starts, counts, taps.shape[1])
        for layer in self._layers:
            layer.feed(context, angles, store, slots, rows)

    def draft(
        self,
        store: KeyValues,
        anchors: Tensor,
        lengths: Tensor,
        embed: Embed,
        head: Head,
        *,
        block: int | None = None,
        widths: Tensor | None = None,
        extent: int | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return the likeliest drafts [B, K - 1] and their logits [B, K - 1, V]: of the positions after the anchors.

        anchors [B]: each row's newest token, at position lengths [B], of which `feed` has had all before. block: K;
        None: as trained. widths [B]: rows of the block that a row has, anchor included, at least 1; None: K. A shorter
        block drafts other tokens where its rows see each other, not only fewer. extent: slots that are read, at least
        the longest of lengths + widths; None: all. embed, head: the target's. Only slots from lengths on are written.
        """
        block = self.config.block if block is None else block
        extent = store.slots if extent is None else extent
        widths = torch.full_like(lengths, block) if widths is None else widths
        embedded = embed(pad(anchors[:, None], (0, block - 1), value=self.config.mask_token_id))  # [B, K, h]
        states = self.block_states(store, embedded.to(self.dtype), lengths, widths, extent)
        hidden = states[:, :-1] if self.config.from_anchor else states[:, 1:]
        logits = self._logits(hidden.to(embedded.dtype), head)
        return logits.argmax(-1), logits

    def block_states(self, store: KeyValues, embedded: Tensor, lengths: Tensor, widths: Tensor, extent: int) -> Tensor:
        """Return the rows of a block [B, K, h] after the final norm, from raw embeddings [B, K, h]."""
        config, block = self.config, embedded.shape[1]
        hidden = embedded * config.embedding_scale  # layers may write over it
        positions = lengths[:, None] + torch.arange(block, device=lengths.device)
        angles = store.rotary.at(positions + config.position_offset)
        slots = store.places(lengths, widths, block)
        groups = config.heads // config.key_heads
        masks = {
            kind: attention_mask(block_mask(kind, lengths, widths, block, extent), groups, self.dtype)
            for kind in dict.fromkeys(config.layers)
        }
        for kind, layer in zip(config.layers, self._layers, strict=True):
            hidden = layer.forward(hidden, angles, masks[kind], store, slots)
        return rms_norm(hidden, hidden.shape[-1:], self._norm, config.epsilon)

    def weights(self) -> dict[str, Tensor]:
        """Return all weights by name, those of a layer as they are stacked here."""
        named = {"fc": self._project, "hidden_norm": self._context_norm, "norm": self._norm}
        named |= {} if self._head is None else {"lm_head": self._head}
        for layer in self._layers:
            named |= {f"layers.{layer.index}.{name}": tensor for name, tensor in vars(layer.weights).items()}
        return named

    def _logits(self, hidden: Tensor, head: Head) -> Tensor:
        logits = head(hidden) if self._head is None else linear(hidden.to(self.dtype), self._head)
        if self.config.output_multiplier != 1:
            logits = logits * self.config.output_multiplier
        if self.config.soft_cap is not None:
            logits = torch.tanh(logits / self.config.soft_cap) * self.config.soft_cap
        return logits if self._ids is None else spread(logits, self._ids, self.config.vocabulary_size)


def load_model(
    directory: Path, target: TargetSizes, options: DFlashOptions, dtype: torch.dtype, device: torch.device | str
) -> DFlashModel:
    """Return the drafter in a directory for a target of these sizes.

    Raises InputError for a checkpoint that is damaged, of another kind or leaves open what the options do not say, and
    BuildError for one that was made for another target.
    """
    config = read_config(directory, target, options)
    return DFlashModel(config, read_weights(directory, config, dtype, device))
