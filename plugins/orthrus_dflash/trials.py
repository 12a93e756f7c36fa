"""Trials of a DFlash drafter: what programs read differently, or configs leave out."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from orthrus import Trial
from orthrus.drafter_models.trials import dtype_trials, mask_trials, rotary_trials, tap_trials
from orthrus.optional import TappedTarget
from orthrus_dflash.config import DFlashConfig


def trials(config: DFlashConfig, dtype: torch.dtype, target: TappedTarget) -> Iterator[Trial]:
    """Yield changes of the options that are worth trying, relative to those that the config was read with."""
    yield from tap_trials(config.taps, target.layer_count)
    yield from _mask_trials(config)
    other = "their own place" if config.from_anchor else "the next token"
    yield Trial(
        f"rows predict {other}",
        f"the rows of a block predict {other}: the shift by one is read the other way round",
        {"sample_from_anchor": not config.from_anchor},
    )
    yield from mask_trials(config.mask_token_id, target)
    yield from rotary_trials(config.rotary.theta, config.position_offset)
    yield from dtype_trials(dtype)


def _mask_trials(config: DFlashConfig) -> Iterator[Trial]:
    """Yield trials of what the rows of a block see."""
    kinds = {layer.causal for layer in config.layers}
    if True in kinds:
        yield Trial(
            "bidirectional mask",
            "the drafter was trained with rows that see all of a block",
            {"is_causal": False},
        )
    if False in kinds:
        yield Trial("causal mask", "the drafter was trained with rows that see those before", {"is_causal": True})
    for layer in [layer for layer in config.layers if layer.window is not None][:1]:
        other = "anchor" if layer.window_from == "row" else "row"
        yield Trial(
            f"windows from the {other}", f"sliding windows are counted from the {other}", {"window_from": other}
        )
        yield Trial("no sliding windows", "the drafter was trained without windows", {"use_sliding_window": False})
