"""Steps of state spaces within limits, where the library takes a token alone without them. B: rows.

Of a model whose steps have limits the library keeps to them where it scans several tokens, and not where it takes one:
its state update has no such argument. A token has to have the same logits in either pass.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any

from torch.nn.functional import softplus

STATE_UPDATE = "mamba2_selective_state_update"  # the library's function
NO_LIMITS = (0.0, math.inf)  # which softplus has by itself


def limits_of(module: Any) -> tuple[float, float]:
    """Return the smallest and the largest step that a layer's scans take."""
    smallest, largest = getattr(module, "time_step_limit", None) or NO_LIMITS
    return float(smallest), float(largest)


def limited(own: Callable[..., Any], limits: tuple[float, float]) -> Callable[..., Any]:
    """Return what updates states by one token as `own` does, with steps [B, H, D] within limits, as scans have them."""
    signature = inspect.signature(own)

    def update(*args: Any, **kwargs: Any) -> Any:
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        given = bound.arguments
        steps = given["dt"] if given["dt_bias"] is None else given["dt"] + given["dt_bias"].to(given["dt"].dtype)
        steps = softplus(steps) if given["dt_softplus"] else steps
        given |= {"dt": steps.clamp(*limits), "dt_bias": None, "dt_softplus": False}
        return own(*bound.args, **bound.kwargs)

    return update
