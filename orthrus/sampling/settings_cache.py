"""Settings of requests that were checked already: clients ask with the same few, again and again."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeVar

from orthrus.interfaces import Target, Verifier
from orthrus.sampling.request_settings import request_sampling, request_stop
from orthrus.settings import Sampling, Stop

KNOWN = 256  # settings of each kind that are remembered
LONGEST = 4096  # bytes of a mapping's JSON; longer ones, of which many would take much memory, are checked each time
S = TypeVar("S", Stop, Sampling)


class SettingsCache:
    """Make the settings of a session's requests. Equal mappings get one object: rows are seen to have the same.

    A mapping is known by its JSON, which tells 1 from 1.0 and true. One that has none, or a long one, is checked each
    time.
    """

    def __init__(self, stop: Stop, sampling: Sampling, target: Target, verifier: Verifier) -> None:
        """Begin with nothing known; stop, sampling: the decoder's, which are resolved."""
        self._stop, self._sampling, self._target, self._verifier = stop, sampling, target, verifier
        self._stops: dict[str, Stop] = {}
        self._samplings: dict[str, Sampling] = {}

    def stop(self, id: str, given: Stop | Mapping[str, Any] | None) -> Stop:
        """Return the limits of a request; raise InputError if they are wrong."""
        return _known(self._stops, given, partial(request_stop, id, given, self._stop, self._target))

    def sampling(self, id: str, given: Sampling | Mapping[str, Any] | None) -> Sampling:
        """Return a request's sampling settings; raise InputError if they are wrong, or the verifier cannot draw."""
        make = partial(request_sampling, id, given, self._sampling, self._target, self._verifier)
        return _known(self._samplings, given, make)


def _known(known: dict[str, S], given: object, make: Callable[[], S]) -> S:
    key = _key(given) if isinstance(given, dict) else None
    if key is None:
        return make()
    if key not in known:
        settings = make()
        if len(known) == KNOWN:
            del known[next(iter(known))]
        known[key] = settings
    return known[key]


def _key(given: dict[str, Any]) -> str | None:
    try:
        key = json.dumps(given)  # ASCII
    except (TypeError, ValueError, RecursionError):  # values that are none of JSON's
        return None
    return key if len(key) <= LONGEST else None
