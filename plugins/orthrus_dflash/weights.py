"""Tensors of a DFlash checkpoint: their names and shapes, as the config has them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor

from orthrus import InputError
from orthrus.drafter_models.checkpoint import check_shapes, read_tensors, stored_shapes
from orthrus_dflash.config import DFlashConfig

COPIES = ("embed_tokens.weight", "lm_head.weight", "verifier_lm_head.weight", "verifier_norm.weight", "d2t", "t2d")
SUCCESSORS = re.compile(r"(?:.*\.)?(?:attention_conv|mlp_conv|candidate_selector|markov_head|confidence_head)\..*")
RENAMED = {"encoder.fc.weight": "fc.weight", "encoder.output_norm_enc.weight": "hidden_norm.weight"}


def read_weights(
    directory: Path, config: DFlashConfig, dtype: torch.dtype, device: torch.device | str
) -> dict[str, Tensor]:
    """Return the tensors of a checkpoint by name; raise InputError if they are not those of its config.

    Where its vocabulary is reduced, `lm_head.weight` and `d2t` are among them; else its embeddings and head are copies
    of the target's, if they are stored at all, and are not read.
    """
    stored = stored_shapes(directory)
    _refuse_successors(stored, directory)
    names = {RENAMED.get(name, name): name for name in stored}
    shapes = {name: stored[own] for name, own in names.items()}
    expected = expected_shapes(config)
    check_shapes(shapes, expected, directory, COPIES if config.layout == "speculators" else ())
    tensors = read_tensors(directory, {names[name] for name in expected})
    return {name: tensors[names[name]].to(device, None if name == "d2t" else dtype, copy=False) for name in expected}


def expected_shapes(config: DFlashConfig) -> dict[str, tuple[int, ...]]:
    """Return the shape of every tensor that a drafter needs, by name."""
    hidden, size = config.hidden_size, config.head_size
    layer: dict[str, tuple[int, ...]] = {
        "input_layernorm": (hidden,),
        "post_attention_layernorm": (hidden,),
        "self_attn.q_proj": (config.heads * size, hidden),
        "self_attn.k_proj": (config.key_heads * size, hidden),
        "self_attn.v_proj": (config.key_heads * size, hidden),
        "self_attn.o_proj": (hidden, config.heads * size),
        "self_attn.q_norm": (size,),
        "self_attn.k_norm": (size,),
        "mlp.gate_proj": (config.intermediate_size, hidden),
        "mlp.up_proj": (config.intermediate_size, hidden),
        "mlp.down_proj": (hidden, config.intermediate_size),
    }
    shapes: dict[str, tuple[int, ...]] = {
        f"layers.{index}.{name}.weight": shape for index in range(len(config.layers)) for name, shape in layer.items()
    }
    shapes["fc.weight"] = (hidden, len(config.taps) * hidden)
    shapes["hidden_norm.weight"] = shapes["norm.weight"] = (hidden,)
    if config.draft_vocabulary_size is not None:
        shapes["lm_head.weight"] = (config.draft_vocabulary_size, hidden)
        shapes["d2t"] = (config.draft_vocabulary_size,)
    return shapes


def _refuse_successors(names: Iterable[str], directory: Path) -> None:
    for name in sorted(names):
        if SUCCESSORS.fullmatch(name):
            raise InputError(f"'{directory}' holds {name}, which belongs to DFlash2 or DSpark; they are not supported")
