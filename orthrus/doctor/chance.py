"""Student's t distribution: how many standard errors a gain must have that is not to be chance."""

from __future__ import annotations

import math

SHARE = 0.05  # of diagnoses in which chance alone may make any of the changes look like a cure


def errors_needed(prompts: int, trials: int) -> float:
    """Return the standard errors that the mean of so many prompts must have, where so many changes are tried.

    That many are passed with a probability of `SHARE` over the number of trials (Bonferroni's bound), if a change does
    nothing and the prompts' differences are normal. prompts: 2 or more.
    """
    wanted, low, high = SHARE / max(1, trials), 0.0, 1.0
    while tail(high, prompts - 1) > wanted:
        low, high = high, 2 * high
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if tail(middle, prompts - 1) > wanted else (low, middle)
    return high


def tail(errors: float, freedom: int) -> float:
    """Return the probability of a t of so many standard errors or more, for degrees of freedom of 1 or more.

    The finite sums are those of Abramowitz and Stegun, 26.7.3 and 26.7.4.
    """
    angle = math.atan2(errors, math.sqrt(freedom))
    cosine, odd = math.cos(angle), freedom % 2
    term, total = (cosine if odd else 1.0), 0.0
    for step in range(odd, freedom - 1, 2):
        total += term
        term *= (step + 1) / (step + 2) * cosine**2
    inner = 2 / math.pi * (angle + math.sin(angle) * total) if odd else math.sin(angle) * total
    return (1 - inner) / 2
