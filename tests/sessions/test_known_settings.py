"""Settings that a session has seen before: equal ones are one object, and others are never taken for them."""

from __future__ import annotations

import copy
import dataclasses
import json
import pickle
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from support.small_sessions import target_of

from orthrus import Decoder, InputError, Sampling, Stop
from orthrus.sampling.request_settings import request_sampling, request_stop
from orthrus.sampling.settings_cache import KNOWN, LONGEST, SettingsCache
from orthrus_drafters.none import NoDrafter
from orthrus_verifiers.consensus import Consensus

TARGET, VERIFIER = target_of(), Consensus()
VALUES = st.sampled_from([0, 1, True, False, 1.0, 0.0, "1", None, [1], (1,), {1: 1.0}, {"1": 1.0}, {True: 1.0}, {1}])
COLLIDING = (1, "1", True, "true", 1.0, "1.0", None, "null")  # pairs that have the same JSON as keys
STOPS = st.dictionaries(st.sampled_from(["max_new_tokens", "min_new_tokens", "token_ids", "past_end"]), VALUES)
SAMPLINGS = st.dictionaries(st.sampled_from(["temperature", "top_k", "top_p", "logit_bias", "bad_words"]), VALUES)


def outcome(make: Any) -> object:
    """Return what a call comes to."""
    try:
        return make()
    except InputError as error:
        return str(error)


@given(st.lists(STOPS, max_size=8), st.lists(SAMPLINGS, max_size=8))
@example([], [{"logit_bias": {key: 1.0}} for key in COLLIDING])
@example([], [{"logit_bias": {key: 1.0}} for key in reversed(COLLIDING)])
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


@pytest.mark.parametrize("asked", [None, {}, {"logit_bias": {1: 0.5}}])
def test_settings_that_requests_share_cannot_be_changed_but_can_be_sent_and_copied(asked: Any) -> None:
    default = Decoder.of(TARGET, NoDrafter(), VERIFIER, Stop(), sampling=Sampling(logit_bias={2: 1.0})).sampling
    sampling = SettingsCache(Stop(), default, TARGET, VERIFIER).sampling("a", asked)
    bias = {2: 1.0} if not asked else {1: 0.5}
    with pytest.raises(TypeError):
        sampling.logit_bias[0] = 9.0  # type: ignore[index]
    for copied in (sampling, pickle.loads(pickle.dumps(sampling)), copy.deepcopy(sampling)):
        assert copied == dataclasses.replace(default, logit_bias=bias) and repr(copied) == repr(sampling)
    assert dataclasses.asdict(sampling)["logit_bias"] == bias
