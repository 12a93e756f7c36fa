"""Tensors of an EAGLE-3 checkpoint: their names and shapes, as the config has them."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from orthrus import InputError
from orthrus.drafter_models.checkpoint import check_shapes, read_tensors, stored_shapes
from orthrus_eagle3.config import Eagle3Config

EMBEDDING = "embed_tokens.weight"
MAPS = ("d2t", "t2d")
PREFIXES = {"SafeAILab": "midlayer.", "speculators": "layers.0."}
UNUSED = ("verifier_lm_head.weight", "verifier_norm.weight")  # copies of the target's, with which it was trained


def read_weights(
    directory: Path, config: Eagle3Config, dtype: torch.dtype, device: torch.device | str
) -> dict[str, Tensor]:
    """Return the tensors of a checkpoint by name, those of the layer without its prefix.

    `embed_tokens.weight` is among them where the checkpoint has one, which wins over the target's. Raises InputError if
    they are not those of its config.
    """
    stored = stored_shapes(directory)
    prefix = PREFIXES[config.layout]
    shapes = {name.removeprefix(prefix): shape for name, shape in stored.items()}
    expected = expected_shapes(config)
    if EMBEDDING in shapes or config.hidden_size != config.target_hidden_size:  # the target's would be too wide
        expected[EMBEDDING] = (config.vocabulary_size, config.hidden_size)
    check_shapes(shapes, expected, directory, (*MAPS, *(UNUSED if config.layout == "speculators" else ())))
    tensors = read_tensors(directory, {name for name in stored if name.removeprefix(prefix) in {*expected, *MAPS}})
    held = {name.removeprefix(prefix): tensor.to(device) for name, tensor in tensors.items()}
    _check_maps(held, config, directory)
    floats = {name: tensor if name in MAPS else tensor.to(dtype) for name, tensor in held.items()}
    return {name: tensor for name, tensor in floats.items() if name in expected}


def expected_shapes(config: Eagle3Config) -> dict[str, tuple[int, ...]]:
    """Return the shape of every tensor that a drafter needs, by name; those of the layer without its prefix."""
    hidden, size = config.hidden_size, config.head_size
    tapped = len(config.taps) * config.target_hidden_size
    shapes: dict[str, tuple[int, ...]] = {
        "fc.weight": (hidden, tapped),
        "norm.weight": (hidden,),
        "lm_head.weight": (config.draft_vocabulary_size, hidden),
        "hidden_norm.weight": (hidden,),
        "input_layernorm.weight": (hidden,),
        "post_attention_layernorm.weight": (hidden,),
        "self_attn.q_proj.weight": (config.heads * size, 2 * hidden),
        "self_attn.k_proj.weight": (config.key_heads * size, 2 * hidden),
        "self_attn.v_proj.weight": (config.key_heads * size, 2 * hidden),
        "self_attn.o_proj.weight": (hidden, config.heads * size),
        "mlp.gate_proj.weight": (config.intermediate_size, hidden),
        "mlp.up_proj.weight": (config.intermediate_size, hidden),
        "mlp.down_proj.weight": (hidden, config.intermediate_size),
    }
    if config.head_norms:
        shapes["self_attn.q_norm.weight"] = shapes["self_attn.k_norm.weight"] = (size,)
    if config.norm_before_fc:
        shapes["input_norm.weight"] = (tapped,)
    if config.norm_taps:
        shapes |= {f"fc_norm.{index}.weight": (config.target_hidden_size,) for index in range(len(config.taps))}
    if config.reduced:
        shapes["d2t"] = (config.draft_vocabulary_size,)
    return shapes


def _check_maps(tensors: dict[str, Tensor], config: Eagle3Config, directory: Path) -> None:
    """Refuse maps between the vocabularies that contradict each other, or the config."""
    offsets, known = (tensors.get(name) for name in MAPS)
    if not config.reduced:
        if offsets is not None and bool(offsets.any()):
            raise InputError(
                f"d2t in '{directory}' maps the drafter's vocabulary, though draft_vocab_size is the target's,"
                f" {config.vocabulary_size}, which leaves nothing to map"
            )
        return
    if known is None or offsets is None:
        return
    ids = torch.arange(len(offsets), device=offsets.device) + offsets
    if known.shape != (config.vocabulary_size,) or not torch.equal(known.nonzero()[:, 0], ids.sort().values):
        raise InputError(f"d2t and t2d in '{directory}' contradict each other: they do not name the same tokens")
