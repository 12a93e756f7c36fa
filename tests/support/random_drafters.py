"""The drafters `dflash` and `eagle3` with random weights, as small as the tables of the kit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from orthrus.drafter_models.rotary import Rotary
from orthrus_dflash import weights as dflash_weights
from orthrus_dflash.config import DFlashConfig, LayerKind
from orthrus_dflash.drafter import DFlash
from orthrus_dflash.model import DFlashModel
from orthrus_eagle3 import weights as eagle3_weights
from orthrus_eagle3.config import Eagle3Config
from orthrus_eagle3.drafter import Eagle3
from orthrus_eagle3.model import Eagle3Model

ROTARY = Rotary(10_000.0)
SHAPE: Mapping[str, Any] = {
    "intermediate_size": 8,
    "heads": 2,
    "key_heads": 1,
    "head_size": 4,
    "epsilon": 1e-6,
    "rotary": ROTARY,
    "taps": (0, "final"),
}


def random_dflash(target: Any, dtype: torch.dtype = torch.float32) -> DFlash:
    """Return a drafter of blocks of 4."""
    config = DFlashConfig(
        layout="z-lab",
        hidden_size=target.hidden_size,
        vocabulary_size=target.vocabulary_size,
        layers=(LayerKind(),) * 2,
        block=4,
        mask_token_id=0,
        draft_vocabulary_size=target.vocabulary_size,
        **SHAPE,
    )
    tensors = _random(dflash_weights.expected_shapes(config), dtype)
    tensors["d2t"] = torch.zeros(target.vocabulary_size, dtype=torch.int64)
    return DFlash(target, DFlashModel(config, tensors), 4)


def random_eagle3(target: Any, dtype: torch.dtype = torch.float32) -> Eagle3:
    """Return a drafter of 3 tokens."""
    config = Eagle3Config(
        layout="SafeAILab",
        hidden_size=target.hidden_size,
        target_hidden_size=target.hidden_size,
        vocabulary_size=target.vocabulary_size,
        draft_vocabulary_size=target.vocabulary_size,
        **SHAPE,
    )
    return Eagle3(target, Eagle3Model(config, _random(eagle3_weights.expected_shapes(config), dtype)), 3)


def _random(shapes: Mapping[str, tuple[int, ...]], dtype: torch.dtype) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {name: torch.randn(shape, generator=generator).to(dtype) for name, shape in shapes.items()}
