"""Optional abilities are asked for by isinstance, also of parts that wrap others, on any Python."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
from support.building import transformers_target

from orthrus import optional
from orthrus.bench.profiler import TimedPart
from orthrus.drafter_models.whole_weights import CountsWeights
from orthrus.moments import HostMoments
from orthrus.reference.cache import PlainCache
from orthrus.verification.recording_verifier import RecordingVerifier
from orthrus_caches.dynamic import DynamicCache
from orthrus_caches.static import StaticCache
from orthrus_drafters.none import NoDrafter
from orthrus_verifiers.consensus import Consensus
from orthrus_verifiers.coupled import Coupled


class Early(NoDrafter):
    name = "early"

    def ahead(self, context: Any, chance: Any) -> None: ...


def statically(part: object, name: str) -> bool:
    """Tell whether isinstance sees a member, as it looks from Python 3.12 on."""
    return inspect.getattr_static(part, name, None) is not None


@pytest.mark.parametrize(("drafter", "has"), [(Early(), True), (NoDrafter(), False)])
def test_a_timed_drafter_has_the_ability_that_its_drafter_has(drafter: Any, has: bool) -> None:
    methods = ("propose", "observe", *(["ahead"] if has else []))
    timed = TimedPart(drafter, methods, [], HostMoments(lambda: 0.0))
    assert isinstance(timed, optional.DraftsAhead) == statically(timed, "ahead") == has
    assert optional.name_of(timed) == optional.name_of(drafter)


@pytest.mark.parametrize(("verifier", "coupled"), [(Coupled(), True), (Consensus(), False)])
def test_a_recording_verifier_is_coupled_as_its_verifier_is(verifier: Any, coupled: bool) -> None:
    recording = RecordingVerifier(verifier)
    assert optional.is_coupled(verifier) == optional.is_coupled(recording) == coupled
    assert statically(recording, "coupled")


def test_a_static_cache_is_one_that_has_all_of_it() -> None:
    assert isinstance(StaticCache(), optional.StaticKVCache)
    without: Any = StaticCache()
    del without.max_slots
    for cache in (DynamicCache(), PlainCache(), without):
        assert not isinstance(cache, optional.StaticKVCache)


def test_a_target_of_a_model_has_every_ability_of_targets() -> None:
    target = transformers_target()
    for ability in (
        CountsWeights,
        optional.DraftingTarget,
        optional.HasDtype,
        optional.HasFingerprint,
        optional.HasPassIdentity,
        optional.LoadedTarget,
        optional.MeasuredTarget,
        optional.Named,
        optional.Reports,
        optional.TrainableTarget,
        optional.ViewTarget,
        optional.WidenedTarget,
    ):
        assert isinstance(target, ability), ability
