"""Engines: the table of those there are. An engine is a class in a file of its own, and a line here.

May import: kernels, model, native, recurrent, transformers_api.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class EngineEntry:
    """A line of the table; the class is an `EngineType`, imported when it is asked for, as it needs torch."""

    path: str  # module:Class
    help: str  # follows the engine's name


# In the order in which `auto` tries them, by their speed. Only `compiled` stands behind `eager`, which any target can
# take: its first passes take minutes, so it is for those who ask for it.
ENGINES: Mapping[str, EngineEntry] = {
    "graphed": EngineEntry(
        "orthrus_transformers.engines.cuda_graphs:GraphedEngine", "replays a whole pass as a CUDA graph"
    ),
    "native": EngineEntry(
        "orthrus_transformers.engines.native:NativeEngine", "runs a whole pass on a CPU in compiled kernels"
    ),
    "fused": EngineEntry(
        "orthrus_transformers.engines.fused:FusedEngine", "joins the small operations of known layers"
    ),
    "packed": EngineEntry(
        "orthrus_transformers.engines.packed:PackedEngine", "multiplies by oneDNN's kernels on a CPU"
    ),
    "eager": EngineEntry("orthrus_transformers.engines.eager:EagerEngine", "calls the model's modules"),
    "compiled": EngineEntry(
        "orthrus_transformers.engines.torch_compile:CompiledEngine", "lets torch.compile join operations"
    ),
}
