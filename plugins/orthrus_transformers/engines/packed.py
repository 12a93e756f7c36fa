"""The engine `packed`: on a CPU, the model's modules with linear layers that multiply through oneDNN."""

from __future__ import annotations

from orthrus_transformers.engines.eager import EagerEngine
from orthrus_transformers.engines.engine import EngineSetup, Obstacle
from orthrus_transformers.kernels.onednn_linear import is_small
from orthrus_transformers.model.fused_layers import pack
from orthrus_transformers.model.packed_linears import packable


class PackedEngine(EagerEngine):
    """The engine whose linear layers multiply through oneDNN, whatever the model is."""

    @staticmethod
    def obstacle(setup: EngineSetup) -> Obstacle | None:
        """Return that nothing is to be packed, where that is so."""
        if packable(setup.model):
            return None
        return Obstacle("finds no linear layer that oneDNN multiplies by", "set engine=eager")

    @classmethod
    def make(cls, setup: EngineSetup) -> PackedEngine:
        """Return the engine, the linear layers being packed from now on."""
        pack(setup.model, is_small(setup.model))
        return cls(setup.model, setup.cache, setup.state, setup.max_length, "packed", setup.recurrent)
