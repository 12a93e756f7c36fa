"""Resampling of prompts: how much an expected ratio depends on which ones it was learned from."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from orthrus.prediction.trace import Trace

DRAWS, SEED = 50, 0
CENTRAL = 0.8  # share of the draws between low and high

Speed = Callable[[Sequence[Trace]], float]  # tokens a second


def ratio_range(
    traces: Sequence[Trace], plain: Sequence[Trace], speed: Speed, plain_speed: Speed
) -> tuple[float, float]:
    """Return between which ratios to plain decoding the middle of the draws lies.

    Prompts are drawn again, with replacement, the same ones for both.
    """
    chooser, ratios = random.Random(SEED), []
    for _ in range(DRAWS):
        drawn = chooser.choices(range(len(traces)), k=len(traces))
        base = plain_speed([plain[index] for index in drawn])
        ratios.append(speed([traces[index] for index in drawn]) / base if base else 0.0)
    ratios.sort()
    outside = round(DRAWS * (1 - CENTRAL) / 2)
    return ratios[outside], ratios[DRAWS - 1 - outside]
