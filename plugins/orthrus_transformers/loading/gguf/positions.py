"""Rotary positions of a GGUF file, as transformers writes them into a config: `rope_parameters`.

Sources: `rope.*` keys (base, scaling), and the tensors `rope_freqs.weight` (factors of every Llama 3.1 and later) and
`rope_factors_long.weight`, `rope_factors_short.weight` (longrope). llama.cpp divides each angle by its factor.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from orthrus import BuildError
from orthrus_transformers.loading.gguf.file import GgufFile

BASE = 10000.0  # llama.cpp's, for files that name none
FACTORS, LONG, SHORT = "rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight"
LOW, HIGH = 1.0, 4.0  # of llama3: wavelengths of which share of the original context are scaled wholly, and not at all
SCALINGS = ("none", "linear", "yarn", "longrope")


def rope_parameters(file: GgufFile, head_dim: int, partial: bool) -> dict[str, Any]:
    """Return the config's `rope_parameters`.

    partial: whether the family may turn only a part of a head. Raises BuildError, naming keys and values, for what
    transformers cannot express.
    """
    base = file.real("rope.freq_base", BASE)
    dimensions = file.whole("rope.dimension_count", head_dim, least=2)
    parameters: dict[str, Any] = {"rope_type": "default", "rope_theta": base}
    if partial:
        parameters["partial_rotary_factor"] = dimensions / head_dim
    elif dimensions != head_dim:
        raise BuildError(
            f"'{file.path}' turns {dimensions} of {head_dim} numbers of a head"
            f" ({file.architecture}.rope.dimension_count), which this architecture's config cannot say"
        )
    parameters |= _scaling(file)
    if FACTORS in file.tensor_names:
        _check_unscaled(file, parameters, FACTORS)
        parameters |= factors_as_scaling(file.tensor(FACTORS), base, file.whole("context_length", least=1))
    return parameters


def _scaling(file: GgufFile) -> dict[str, Any]:
    """Return what the keys `rope.scaling.*` say, and the tensors of longrope."""
    kind = file.own("rope.scaling.type", "linear")  # llama.cpp's default, which a factor of 0 or 1 makes none
    factor = file.real("rope.scaling.factor", file.real("rope.scale_linear", 0.0))
    original = file.own("rope.scaling.original_context_length")
    file.own("rope.scaling.finetuned")  # says how the model was trained, and changes nothing
    attention = file.own("rope.scaling.attn_factor")
    if kind not in SCALINGS:
        raise BuildError(
            f"'{file.path}' scales positions by {file.architecture}.rope.scaling.type={kind!r}, which is not known;"
            f" known: {', '.join(SCALINGS)}"
        )
    if LONG in file.tensor_names or SHORT in file.tensor_names:
        return _longrope(file, original, attention)
    if kind == "longrope":
        raise BuildError(f"'{file.path}' has longrope positions and lacks the tensors {LONG} and {SHORT}")
    if attention not in (None, 1.0) and (kind != "yarn" or factor in (0.0, 1.0)):
        raise BuildError(
            f"'{file.path}' scales scores by {file.architecture}.rope.scaling.attn_factor={attention} without yarn,"
            " which transformers' config cannot say"
        )
    if kind == "none" or factor in (0.0, 1.0):
        return {}
    if kind == "linear":
        return {"rope_type": "linear", "factor": factor}
    return _yarn(file, factor, original, attention)


def _yarn(file: GgufFile, factor: float, original: Any, attention: Any) -> dict[str, Any]:
    parameters: dict[str, Any] = {
        "rope_type": "yarn",
        "factor": factor,
        "original_max_position_embeddings": int(original or file.whole("context_length", least=1)),
    }
    if file.own("rope.scaling.yarn_log_multiplier"):
        value = file.own("rope.scaling.yarn_log_multiplier")
        raise BuildError(
            f"'{file.path}' has {file.architecture}.rope.scaling.yarn_log_multiplier={value}, which is not known here"
        )
    if (extrapolation := file.own("rope.scaling.yarn_ext_factor", 1.0)) not in (1.0, -1.0):
        raise BuildError(
            f"'{file.path}' has {file.architecture}.rope.scaling.yarn_ext_factor={extrapolation}; only 1 is known"
        )
    for key, name in (("yarn_beta_fast", "beta_fast"), ("yarn_beta_slow", "beta_slow")):
        if (value := file.own(f"rope.scaling.{key}")) is not None:
            parameters[name] = float(value)
    scale = float(attention or 1.0) * file.real("rope.scaling.yarn_attn_factor", 1.0)
    if scale != 1.0:
        parameters["attention_factor"] = scale * (0.1 * math.log(factor) + 1.0)
    return parameters


def _longrope(file: GgufFile, original: Any, attention: Any) -> dict[str, Any]:
    missing = [name for name in (LONG, SHORT) if name not in file.tensor_names]
    if missing or original is None:
        lacks = missing or [f"{file.architecture}.rope.scaling.original_context_length"]
        raise BuildError(f"'{file.path}' has longrope positions and lacks {' and '.join(lacks)}")
    longest = file.whole("context_length", least=1)
    parameters: dict[str, Any] = {
        "rope_type": "longrope",
        "long_factor": file.tensor(LONG).tolist(),
        "short_factor": file.tensor(SHORT).tolist(),
        "original_max_position_embeddings": int(original),
        "factor": longest / int(original),
    }
    if attention is not None:
        parameters["attention_factor"] = float(attention)
    return parameters


def factors_as_scaling(factors: Tensor, base: float, context: int) -> dict[str, Any]:
    """Return scaling that divides each angle by its factor [D / 2].

    That of type `llama3` with the parameters that every released model has, if it gives these factors; else `longrope`
    with the factors themselves, the same at every length.
    """
    values = factors.double()
    if bool((values == 1).all()):
        return {}
    parameters = _as_llama3(values, base)
    if parameters is not None:
        return parameters
    listed = values.tolist()
    return {
        "rope_type": "longrope",
        "long_factor": listed,
        "short_factor": listed,
        "original_max_position_embeddings": context,
        "attention_factor": 1.0,
    }


def _as_llama3(factors: Tensor, base: float) -> dict[str, Any] | None:
    count = len(factors)
    turns = base ** (-torch.arange(count, dtype=torch.float64) / count) / (2 * math.pi)  # per token
    most = float(factors.max())
    if most <= 1 or bool((factors < 1 - 1e-6).any()):
        return None
    between = (factors > 1 + 1e-6) & (factors < most * (1 - 1e-6))
    if bool(between.any()):
        smooth = (1 / factors - 1 / most) / (1 - 1 / most)
        lengths = (smooth * (HIGH - LOW) + LOW) / turns
        original = round(float(lengths[between].median()))
    else:  # between the last that is whole and the first that is scaled
        whole, scaled = turns[factors <= 1 + 1e-6], turns[factors >= most * (1 - 1e-6)]
        if not len(whole) or not len(scaled):
            return None
        original = round(math.sqrt(HIGH / float(whole.min()) * (LOW / float(scaled.max()))))
    if not torch.allclose(llama3_factors(turns, most, original), factors, rtol=1e-5, atol=0):
        return None
    return {
        "rope_type": "llama3",
        "factor": round(most, 6),
        "low_freq_factor": LOW,
        "high_freq_factor": HIGH,
        "original_max_position_embeddings": original,
    }


def llama3_factors(turns: Tensor, factor: float, original: int) -> Tensor:
    """Return what scaling of type `llama3` divides angles by, for frequencies in turns a token [D / 2]."""
    smooth = ((original * turns - LOW) / (HIGH - LOW)).clamp(0, 1)
    return 1 / ((1 - smooth) / factor + smooth)


def _check_unscaled(file: GgufFile, parameters: dict[str, Any], tensor: str) -> None:
    if parameters["rope_type"] != "default":
        raise BuildError(
            f"'{file.path}' has both the tensor {tensor} and {file.architecture}.rope.scaling.type="
            f"{parameters['rope_type']!r}; which of them counts is not known"
        )
