"""Trials of an EAGLE-3 head: what programs read differently, or configs leave out."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from orthrus import Trial
from orthrus.drafter_models.trials import dtype_trials, rotary_trials, tap_trials
from orthrus.optional import TappedTarget
from orthrus_eagle3.config import Eagle3Config

NORMS = {  # option: before and after the norm, as the option says false or true
    "norm_before_residual": ("the residual stream begins", "the feature"),
    "norm_output": ("a step goes on", "the output"),
}


def trials(config: Eagle3Config, dtype: torch.dtype, target: TappedTarget) -> Iterator[Trial]:
    """Yield changes of the options that are worth trying, relative to those that the config was read with."""
    yield from tap_trials(config.taps, target.layer_count)
    for option, (what, state) in NORMS.items():
        other = not getattr(config, option)
        yield Trial(
            f"{state} {'after' if other else 'before'} its norm",
            f"{what} {'after' if other else 'before'} the norm of {state} in the drafter's training",
            {option: other},
        )
    yield from rotary_trials(config.rotary.theta, config.position_offset)
    yield from dtype_trials(dtype)
