"""Settings that a session has seen before: equal ones are one object, and others are never taken for them."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from support.small_sessions import target_of

from orthrus import InputError, Sampling, Stop
from orthrus.sampling.request_settings import request_sampling, request_stop
from orthrus.sampling.settings_cache import KNOWN, LONGEST, SettingsCache
from orthrus_verifiers.consensus import Consensus

TARGET, VERIFIER = target_of(), Consensus()
VALUES = st.sampled_from([0, 1, True, False, 1.0, 0.0, "1", None, [1], (1,), {1: 1.0}, {"1": 1}, {True: 1.0}, {1}])
STOPS = st.dictionaries(st.sampled_from(["max_new_tokens", "min_new_tokens", "token_ids", "past_end"]), VALUES)
SAMPLINGS = st.dictionaries(st.sampled_from(["temperature", "top_k", "top_p", "logit_bias", "bad_words"]), VALUES)


def outcome(make: Any) -> object:
    """Return what a call comes to."""
    try:
        return make()
    except InputError as error:
        return str(error)


@given(st.lists(STOPS, max_size=8), st.lists(SAMPLINGS, max_size=8))
def test_what_was_asked_before_changes_no_settings(stops: list[Any], samplings: list[Any]) -> None:
    known = SettingsCache(Stop(), Sampling(), TARGET, VERIFIER)
    for asked in [*stops, *stops]:
        fresh = outcome(lambda asked=asked: request_stop("a", asked, Stop(), TARGET))
        assert repr(outcome(lambda asked=asked: known.stop("a", asked))) == repr(fresh)
    for asked in [*samplings, *samplings]:
        fresh = outcome(lambda asked=asked: request_sampling("a", asked, Sampling(), TARGET, VERIFIER))
        assert repr(outcome(lambda asked=asked: known.sampling("a", asked))) == repr(fresh)


def test_equal_settings_are_one_object_and_few_are_kept() -> None:
    known = SettingsCache(Stop(), Sampling(), TARGET, VERIFIER)
    first = known.stop("a", {"max_new_tokens": 5})
    assert known.stop("b", {"max_new_tokens": 5}) is first
    for number in range(KNOWN + 5):
        known.stop("c", {"max_new_tokens": 100 + number})
    assert known.stop("d", {"max_new_tokens": 5}) is not first


def test_long_settings_are_not_kept() -> None:
    known = SettingsCache(Stop(), Sampling(), TARGET, VERIFIER)
    around = len(json.dumps({"strings": [""]}))
    for length, kept in ((LONGEST - around, True), (LONGEST - around + 1, False)):
        asked = {"strings": ["a" * length]}
        assert (known.stop("a", asked) is known.stop("b", asked)) is kept
