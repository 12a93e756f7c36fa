"""Weights of a view as int8: one scale a row, rounded to nearest; what has no rows stays as it is."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from orthrus import InputError

LEVELS = 127  # each way: -128 is not used, so that a row and its negative are alike
SCALE = "_scale"  # follows the name of a quantized weight
SMALLEST = torch.finfo(torch.float32).tiny  # below it a scale would lose its own digits


def quantized(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return every matrix as int8 [rows, ...] and its scales [rows] in float32, and the rest as it is.

    A value is off by half a scale at most, and a scale is the row's largest value / 127. Raises InputError for weights
    that are not finite.
    """
    coded: dict[str, Tensor] = {}
    for name, weight in weights.items():
        if not bool(weight.isfinite().all()):
            raise InputError(f"the view's weight {name} has values that are not finite")
        if weight.dim() < 2:
            coded[name] = weight
        else:
            coded[name], coded[name + SCALE] = _rounded(weight)
    return coded


def _rounded(weight: Tensor) -> tuple[Tensor, Tensor]:
    rows = weight.flatten(1).double()  # [rows, values of one]
    scales = (rows.abs().amax(1) / LEVELS).clamp(min=SMALLEST).float()  # [rows]
    levels = (rows / scales.double()[:, None]).round().clamp(-LEVELS, LEVELS)
    return levels.to(torch.int8).view(weight.shape), scales


def dequantized(stored: Mapping[str, Tensor], names: Mapping[str, object], source: object) -> dict[str, Tensor]:
    """Return weights from what is stored: those in int8 as float32, the rest as they are.

    names: all that is stored where these come from. Raises InputError, naming the place, if a scale is missing, does
    not fit or belongs to no weight.
    """
    scales = {name for name in names if name.endswith(SCALE)}
    for name in sorted(scales):
        if name.removesuffix(SCALE) not in names:
            raise InputError(f"'{source}' holds {name}, a scale of no weight")
    return {name: _decoded(name, stored, source) for name in stored if name not in scales}


def _decoded(name: str, stored: Mapping[str, Tensor], source: object) -> Tensor:
    weight = stored[name]
    if weight.dtype != torch.int8:
        return weight
    scales = stored.get(name + SCALE)
    if scales is None:
        raise InputError(f"'{source}' holds no {name}{SCALE}, the scales of an int8 weight")
    if scales.shape != weight.shape[:1]:
        raise InputError(f"{name}{SCALE} in '{source}' has the shape {list(scales.shape)}, not {[*weight.shape[:1]]}")
    return weight.float() * scales.float().view(-1, *[1] * (weight.dim() - 1))
