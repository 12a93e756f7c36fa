"""Versions of a model's weights: what changes when one of them is replaced, moved or written to."""

from __future__ import annotations

from typing import Any


def weight_versions(model: Any) -> tuple[tuple[int, int], ...]:
    """Return the address and torch's count of writes of each parameter.

    Weights made under `torch.inference_mode` have no count, and writes through `weight.data` are not counted.
    """
    return tuple((weight.data_ptr(), 0 if weight.is_inference() else weight._version) for weight in model.parameters())
