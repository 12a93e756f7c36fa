"""Random weights in GGUF's block formats; the package `gguf` writes some, and of the others any bytes are blocks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType as Kind

from support.gguf_models import CONTEXT, FAMILIES, byte_level, finish, original, tensors

KINDS = (Kind.Q4_0, Kind.Q4_1, Kind.Q8_0, Kind.Q4_K, Kind.Q6_K)
WRITTEN = (Kind.Q4_0, Kind.Q4_1, Kind.Q8_0)
SCALES = {Kind.Q4_K: (0, 2), Kind.Q6_K: (208,)}  # where halves are in a block of 256


def random_blocks(kind: Kind, rows: int, columns: int, seed: int) -> np.ndarray[Any, Any]:
    """Return a random matrix as a file has it: bytes [rows, bytes of a row]."""
    chooser = np.random.default_rng(seed)
    if kind in WRITTEN:
        return gguf.quantize(chooser.standard_normal((rows, columns), dtype=np.float32), kind)
    size, count = gguf.GGML_QUANT_SIZES[kind][1], columns // 256
    blocks = chooser.integers(0, 256, (rows, count, size), dtype=np.uint8)
    for at in SCALES[kind]:
        halves = chooser.uniform(0.001, 0.01, (rows, count, 1)).astype(np.float16)
        blocks[:, :, at : at + 2] = halves.view(np.uint8)
    return blocks.reshape(rows, -1)


def write_block_model(path: Path, name: str, kind: Kind) -> Path:
    """Write a family's tiny model with its matrices in blocks of a kind that `gguf` writes, or in 16 bits."""
    family, model = FAMILIES[name], original(name)
    config = model.config
    writer = gguf.GGUFWriter(path, family.architecture)
    keys = {
        "context_length": CONTEXT,
        "block_count": config.num_hidden_layers,
        "embedding_length": config.hidden_size,
        "feed_forward_length": config.intermediate_size,
        "attention.head_count": config.num_attention_heads,
        "attention.head_count_kv": config.num_key_value_heads,
        "attention.key_length": config.head_dim,
        "attention.value_length": config.head_dim,
        "rope.dimension_count": config.head_dim,
    }
    for key, value in keys.items():
        writer.add_uint32(f"{family.architecture}.{key}", value)
    writer.add_float32(f"{family.architecture}.rope.freq_base", float(config.rope_parameters["rope_theta"]))
    writer.add_float32(f"{family.architecture}.attention.layer_norm_rms_epsilon", float(config.rms_norm_eps))
    byte_level(writer)
    for tensor_name, values in tensors(family, model):
        plain = np.ascontiguousarray(values.float().numpy())
        if plain.ndim == 1:
            writer.add_tensor(tensor_name, plain)
        else:
            writer.add_tensor(tensor_name, gguf.quantize(plain, kind), raw_dtype=kind)
    return finish(writer, path)


def widened(kind: Kind, stored: np.ndarray[Any, Any]) -> torch.Tensor:
    """Return what a matrix in blocks stands for, by the package `gguf`."""
    return torch.from_numpy(np.asarray(gguf.dequantize(stored, kind), dtype=np.float32))
