"""The engine `fused`: layers of known kinds with their projections joined and their small operations in one kernel."""

from __future__ import annotations

import torch
from torch import Tensor

from orthrus import MaskDescription
from orthrus.kernels.tiles import EVEN, MOST_INVARIANT_TOKENS, MOST_TOKENS, MOST_WIDE_TOKENS, SMALL_WIDTH
from orthrus.optional import StaticKVCache
from orthrus_transformers.engines.eager import EagerEngine
from orthrus_transformers.engines.engine import EngineSetup, Obstacle
from orthrus_transformers.engines.forward_pass import BlocksBeside, ForwardPass
from orthrus_transformers.kernels.onednn_linear import fits, is_small
from orthrus_transformers.model.decoder_layers import find_layers
from orthrus_transformers.model.fused_layers import fuse, pack
from orthrus_transformers.model.llama_like import fits_layer
from orthrus_transformers.model.pass_state import Placement, RowsBeside
from orthrus_transformers.model.rope_table import look_up_angles
from orthrus_transformers.model.short_convolutions import mask_for
from orthrus_transformers.transformers_api import cache_argument


class FusedEngine(EagerEngine):
    """The engine whose layers are fused; on a CPU the linear layers outside of them multiply through oneDNN."""

    @staticmethod
    def obstacle(setup: EngineSetup) -> Obstacle | None:
        """Return why the model's layers have no fused form here, or why that is no faster, if nobody asked for it."""
        model = setup.model
        on_gpu = model.device.type == "cuda"
        if not setup.by_name and not on_gpu and not fits(model.get_input_embeddings().weight):
            return Obstacle("is not faster without a GPU or oneDNN", "set engine=eager")
        if on_gpu and model.dtype == torch.float64:
            # The kernels of a GPU compute in float32, which would take from the model what it was asked for.
            return Obstacle("has no form for float64 models on a GPU", "set engine=eager")
        if not any(map(fits_layer, model.modules())):
            return Obstacle(f"has no form for model type '{model.config.model_type}'", "set engine=eager")
        return None

    @classmethod
    def make(cls, setup: EngineSetup) -> FusedEngine:
        """Return the engine, the layers having their fused form from now on."""
        model, state = setup.model, setup.state
        copies = is_small(model)
        fuse(model, state, copies)
        pack(model, copies)
        if model.device.type == "cuda":
            look_up_angles(model, setup.max_length)
        return cls(model, setup.cache, state, setup.max_length, "fused", setup.recurrent)

    def run(self, forward_pass: ForwardPass) -> Tensor:
        """Run the pass; blocks beside a scored draft share its walk through the layers where `joins` says so."""
        beside, rows = forward_pass.beside, len(forward_pass.lengths)
        if beside is not None and forward_pass.taps is None and self.joins(rows, beside):
            return self._joined(forward_pass)
        return super().run(forward_pass)

    def joins(self, rows: int, beside: BlocksBeside) -> bool:
        """Tell whether blocks go through the layers with the draft, so that what is not attention is read once.

        In bfloat16 on a GPU, for one row, of so many columns as the kernels for few tokens take: there the draft's
        logits have the bits that they have alone. Over more columns, and in other dtypes, bits depend on how many
        tokens a pass is over, and blocks are run apart.
        """
        model = self._model
        invariant = beside.blocks.count + beside.blocks.columns <= self._most_invariant()
        on_gpu = model.device.type == "cuda" and model.dtype == torch.bfloat16
        return on_gpu and invariant and self.can_join(rows, beside)

    def _most_invariant(self) -> int:
        """Return of how many columns a pass may be in which a row has the bits that it has alone."""
        if self._model.config.get_text_config().hidden_size <= SMALL_WIDTH:
            return MOST_INVARIANT_TOKENS
        weights = (weight for layer in find_layers(self._model) for weight in layer.parameters() if weight.dim() > 1)
        uneven = any(size % EVEN for weight in weights for size in weight.shape)
        return MOST_TOKENS if uneven else MOST_WIDE_TOKENS

    def can_join(self, rows: int, beside: BlocksBeside) -> bool:
        """Tell whether they could: one row, over a cache of fixed buffers, and all layers fused, with the view, too."""
        layers = find_layers(self._model)
        every = bool(layers) and all(beside.view in getattr(layer, "orthrus_fused", {}) for layer in layers)
        return rows == 1 and every and isinstance(self._cache, StaticKVCache)

    def _joined(self, forward_pass: ForwardPass) -> Tensor:
        """Return the logits [1, n + 1 and those of blocks, V] of one walk through the layers."""
        assert forward_pass.beside is not None, "there are blocks"
        scored, beside = forward_pass.apart()
        blocks, taps = forward_pass.beside.blocks, forward_pass.beside.taps
        count, columns, device = blocks.count, forward_pass.columns, scored.lengths.device
        own = Placement(slice(0, count), scored.placed(), scored.extent)
        others = Placement(slice(count, columns), beside.placed(), beside.extent)
        total, extent = (self._cache.place(placed.slots, placed.extent) for placed in (others, own))  # may grow at once
        behind = beside.placed_at(others.slots)
        mask = MaskDescription("causal", own.slots, scored.lengths, extent)
        seen = MaskDescription("blocks", behind, scored.lengths, total, beside.seen())
        positions = self._within(torch.cat([own.slots, behind], dim=1), total)
        self.past.length = forward_pass.extent - columns
        if taps is not None:
            taps.hold(1, columns)
        rows = RowsBeside(forward_pass.beside.view, seen, own, others)
        with self._state.run(mask, form=self.form, taps=taps, beside=rows):
            logits: Tensor = self._model(
                input_ids=torch.cat([scored.joined(), beside.joined()], dim=1),
                position_ids=positions,
                attention_mask=mask_for(self._convolves, self._stand_in.expand(1, 1, columns, total)),
                use_cache=True,
                logits_to_keep=blocks.projected_with_draft(device),
                **{cache_argument(self._model): self.past},
            ).logits
        if taps is not None:  # those of the blocks alone
            states = taps.states[:, count:].clone()
            taps.hold(1, blocks.columns)
            taps.states.copy_(states)
        return logits
