"""Memory traffic of a pass, for the bandwidth share that `orthrus bench` shows, and the key of its measured time."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from orthrus import AttentionBackend, KVCache
from orthrus_transformers.model.block_weights import block_bytes, block_weight, stored_weight
from orthrus_transformers.model.shards import Shards, group_of, shards_of
from orthrus_transformers.recurrent.recurrent_states import RecurrentStates

FOREIGN = {"_name_or_path", "transformers_version", "architectures", "dtype"}  # of a config: no matter of its shape
KERNELS = ("weights", "threads", "library")  # of the engine native: what its weights are in, and what reads them


@dataclass(frozen=True)
class PassReads:
    """The bytes of a model's weights, those of one token's keys and values in each layer, and the layers' windows.

    All are those that this process holds, but for whole_weights: of all ranks. states: of recurrent layers, as many
    bytes a row as they come to; None: the model has none. All experts of a layer count as read, though a pass over a
    few tokens needs only some.
    """

    weights: int
    whole_weights: int
    slots: tuple[int, ...]
    windows: tuple[int | None, ...]
    states: RecurrentStates | None = None

    @classmethod
    def of_model(
        cls, model: Any, windows: Sequence[int | None], keys: torch.dtype, states: RecurrentStates | None = None
    ) -> PassReads:
        """Return what passes of a model read; windows: one for each layer, None where it sees all keys.

        keys: the dtype of keys and values.
        """
        group = group_of(model)
        ranks = 1 if group is None else group.count
        values = [value // ranks for value in slot_values(model.config.get_text_config(), len(windows))]
        slots = tuple(count * keys.itemsize for count in values)
        return cls(weight_bytes(model), weight_bytes(model, whole=True), slots, tuple(windows), states)

    def of(self, lengths: Sequence[int]) -> int:
        """Return the bytes of one pass over rows with this many tokens; keys that a window hides are not read."""
        seen = [sum(min(length, window or length) for length in lengths) for window in self.windows]
        row = 0 if self.states is None else self.states.bytes_of_row()
        return (
            self.weights + row * len(lengths) + sum(slot * count for slot, count in zip(self.slots, seen, strict=True))
        )


def slot_values(config: Any, layers: int) -> list[int]:
    """Return how many numbers one token's keys and values are in each layer that attends; a config may differ by layer.

    Of a model some of whose layers do not attend only the largest size is known.
    """
    configs = list(config.per_layer_config) if getattr(config, "is_heterogeneous", False) else [config] * layers
    sizes = []
    for layer in configs:
        heads = getattr(layer, "num_key_value_heads", None) or layer.num_attention_heads
        sizes.append(2 * heads * (getattr(layer, "head_dim", None) or layer.hidden_size // layer.num_attention_heads))
    return sizes if len(sizes) == layers else [max(sizes, default=0)] * layers


def weight_bytes(model: Any, *, whole: bool = False) -> int:
    """Return the bytes of all weights but those of an embedding table of its own, of which a pass reads a few rows.

    whole: of a model that ranks share, those that the others hold, too.
    """
    table, head = model.get_input_embeddings(), model.get_output_embeddings()
    shards = shards_of(model) if whole else None
    sizes = {id(weight): _size_of(name, weight, shards) for name, weight in model.named_parameters()}
    every: int = sum(sizes.values()) + block_bytes(model)
    if head is not None and stored_weight(head) is stored_weight(table):
        return every
    stored = block_weight(table)
    return every - int(sizes[id(table.weight)] if stored is None else stored.size)


def _size_of(name: str, weight: Tensor, shards: Shards | None) -> int:
    """Return the bytes of a parameter; of one that is a rank's part those of the whole."""
    if shards is None or name not in shards.parts:
        return weight.nbytes
    return math.prod(shards.parts[name].shape) * weight.itemsize


def pass_identity(
    model: Any, engine: Mapping[str, Any], attention: AttentionBackend, cache: KVCache
) -> Mapping[str, Any]:
    """Return the model's type and shape, its dtype, and what runs its passes. engine: as it reports itself."""
    group = group_of(model)
    settings = {key: value for key, value in model.config.to_dict().items() if key not in FOREIGN}
    shape = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()
    return {
        "model": str(model.config.model_type),
        "shape": shape[:16],
        "dtype": str(model.dtype),
        "layers": engine["layers"],
        "captured": engine.get("captured", False),
        **{name: engine[name] for name in KERNELS if name in engine},
        "attention": type(attention).__name__,
        "cache": type(cache).__name__,
        **({} if group is None else {"parallel": group.count}),
    }
