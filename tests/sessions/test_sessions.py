"""A session: each of many requests gets what it gets alone, whoever comes, goes and is beside it."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from support.building import fused_target, table_target, transformers_target
from support.recordings import recording_target
from support.sessions import assert_alone, decoded, decoder_of, random_request
from support.thorough import thorough_but

from orthrus import Drafter, Target
from orthrus_caches.static import StaticCache
from orthrus_diffusion.drafter import Diffusion
from orthrus_drafters.none import NoDrafter
from orthrus_drafters.prompt_lookup import PromptLookup
from orthrus_drafters.replay import Replay

TARGETS: dict[str, Callable[[], Target]] = {
    "table": lambda: table_target(alphabet="abcdefgh"),
    "eager": lambda: transformers_target(chunk=4, engine="eager"),
    "fused": lambda: fused_target(chunk=4),
    "recorded": lambda: recording_target(chunk=4),
    "compiled": lambda: transformers_target(cache=StaticCache(slots=16), chunk=4, engine="compiled"),
}


def with_view(target: Target) -> Drafter:
    target.attach_view("copy")  # type: ignore[attr-defined]
    return Diffusion(target, 4, 0, "copy")  # type: ignore[arg-type]


DRAFTERS: dict[str, Callable[[Target], Drafter]] = {
    "none": lambda target: NoDrafter(),
    "lookup": lambda target: PromptLookup(2, 1, 4),
    "replay": lambda target: Replay(4, 0.7),
    "view": with_view,
}
CASES = [
    (target, drafter)
    for target in TARGETS
    for drafter in DRAFTERS
    if drafter != "view" or target != "table"  # which has no views
]
EVERY_RUN = [("table", "lookup"), ("table", "replay"), ("eager", "view"), ("recorded", "lookup"), ("fused", "none")]


@pytest.mark.parametrize(("name", "drafter"), thorough_but(EVERY_RUN, CASES))
def test_200_requests_that_differ_in_all_settings_get_what_each_gets_alone(name: str, drafter: str) -> None:
    chooser, target = random.Random(f"{name} {drafter}"), TARGETS[name]()
    letters = "abcdefgh" if name == "table" else ""
    requests = [random_request(chooser, f"r{number}", target.vocabulary_size, letters) for number in range(200)]
    session = decoder_of(target, DRAFTERS[drafter](target)).session(chooser.choice([3, 5, 8]))
    answers = decoded(session, requests, chooser)
    for request in requests:
        assert_alone(target, request, answers[request.id])
    assert sum(answer.cancelled for answer in answers.values()) > 5
