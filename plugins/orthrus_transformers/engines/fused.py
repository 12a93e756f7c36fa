"""The engine `fused`: layers of known kinds with their projections joined and their small operations in one kernel."""

from __future__ import annotations

import torch

from orthrus_transformers.engines.eager import EagerEngine
from orthrus_transformers.engines.engine import EngineSetup, Obstacle
from orthrus_transformers.kernels.onednn_linear import fits, is_small
from orthrus_transformers.model.fused_layers import fuse, pack
from orthrus_transformers.model.llama_like import fits_layer
from orthrus_transformers.model.rope_table import look_up_angles


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
