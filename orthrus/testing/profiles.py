"""Hypothesis profiles: `dev` while one works, `ci` always the same, `nightly` for long."""

from __future__ import annotations

import os
from typing import Any

from orthrus.errors import InputError, unknown
from orthrus.testing.with_hypothesis import HealthCheck, settings

VARIABLE = "ORTHRUS_PROFILE"
# A model's first pass is slow; and where Hypothesis sees a CI variable, its own defaults are derandomized.
PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=False)
PROFILES = {
    "dev": settings(PATIENT, max_examples=30),  # other examples every time; those that failed come first
    "ci": settings(PATIENT, derandomize=True, database=None),
    "nightly": settings(PATIENT, max_examples=2000, stateful_step_count=100, print_blob=True),
}


def register_profiles(default: str = "ci") -> None:
    """Register the profiles and load the one that ORTHRUS_PROFILE names; `--hypothesis-profile` comes after and wins.

    Called once, in a `conftest.py`. Raises InputError for a name that is none.
    """
    for name, profile in PROFILES.items():
        settings.register_profile(name, profile)
    chosen = os.environ.get(VARIABLE) or default
    if chosen not in PROFILES:
        raise InputError(f"{VARIABLE}: {unknown('profile', chosen, PROFILES)}")
    settings.load_profile(chosen)


def fewer(parts: int, **others: Any) -> settings:
    """Return settings with one part in so many of the profile's examples, for tests whose examples are slow.

    others: further settings of Hypothesis. It decorates a test, or is the `settings` of a state machine's `TestCase`.
    """
    return settings(max_examples=max(1, settings().max_examples // parts), **others)
