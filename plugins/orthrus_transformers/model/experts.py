"""Mixtures of experts in float64, which the grouped products that transformers chooses do not know."""

from __future__ import annotations

from typing import Any

import torch

PLAIN = "eager"  # one expert after the other: in every dtype, on every device


def choose_experts(config: Any, dtype: torch.dtype) -> None:
    """Let the experts of a model with this config compute in a way that knows the dtype; others are left as they are.

    The modules read the config whenever they run.
    """
    if dtype == torch.float64:
        config._experts_implementation = PLAIN
