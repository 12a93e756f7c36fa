"""Hypothesis, or the sentence that says how to get it; nothing else of the kit needs it."""

from orthrus.errors import InputError

try:
    from hypothesis import HealthCheck, settings, stateful, strategies
except ModuleNotFoundError as error:
    raise InputError(
        "strategies, profiles and state machines need hypothesis: pip install 'orthrus-decoding[testing]'"
    ) from error

__all__ = ["HealthCheck", "settings", "stateful", "strategies"]
