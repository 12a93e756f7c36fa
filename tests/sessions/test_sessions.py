"""A session: each of many requests gets what it gets alone, whoever comes, goes and is beside it."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest
from support.building import fused_target, table_target, target_oracle, transformers_target
from support.recordings import recording_target
from support.sessions import assert_alone, decoded, decoder_of, random_request
from support.thorough import nightly_but
from support.views import random_view

from orthrus import AutoBlock, Decoder, Drafter, Stop, Target
from orthrus_caches.paged import PagedCache
from orthrus_caches.static import StaticCache
from orthrus_diffusion.drafter import Diffusion
from orthrus_drafters.none import NoDrafter
from orthrus_drafters.options import SuffixOptions
from orthrus_drafters.prompt_lookup import PromptLookup
from orthrus_drafters.replay import Replay
from orthrus_drafters.suffix import Suffix
from orthrus_verifiers.coupled import Coupled

TARGETS: dict[str, Callable[[], Target]] = {
    "table": lambda: table_target(alphabet="abcdefgh"),
    "eager": lambda: transformers_target(chunk=4, engine="eager"),
    "fused": lambda: fused_target(chunk=4),
    "recorded": lambda: recording_target(chunk=4),
    "paged": lambda: transformers_target(cache=PagedCache(4, blocks=30, prefixes=12), chunk=4),  # a text may be of 14
    "compiled": lambda: transformers_target(cache=StaticCache(slots=16), chunk=4, engine="compiled"),
}


def with_view(target: Target) -> Drafter:
    target.attach_view("copy")  # type: ignore[attr-defined]
    return Diffusion(target, 4, 0, "copy")  # type: ignore[arg-type]


def launching_early(target: Target) -> Drafter:
    random_view(target, "random")  # type: ignore[arg-type]
    return Diffusion(target, 4, 3, "random", early=True)  # type: ignore[arg-type]


DRAFTERS: dict[str, Callable[[Target], Drafter]] = {
    "none": lambda target: NoDrafter(),
    "lookup": lambda target: PromptLookup(2, 1, 4),
    "auto": lambda target: PromptLookup(2, 1, 4, auto=AutoBlock(target, 4)),
    "suffix": lambda target: Suffix(SuffixOptions(length=4, min_match=1, max_match=4, memory=600)),
    "replay": lambda target: Replay(4, 0.7),
    "view": with_view,
    "early": launching_early,
}
CASES = [
    (target, drafter)
    for target in TARGETS
    for drafter in DRAFTERS
    if drafter not in ("view", "early") or target != "table"  # which has no views
]
THOROUGH = [  # each engine but the one that compiles, each drafter with a model; the rest is nightly
    *((target, drafter) for target, drafter in CASES if target == "table"),
    ("eager", "none"),
    ("eager", "view"),
    ("fused", "auto"),
    ("fused", "early"),
    ("recorded", "lookup"),
    ("recorded", "view"),
    ("paged", "auto"),
    ("paged", "early"),
]
EVERY_RUN = [("table", "replay"), ("recorded", "early"), ("fused", "replay"), ("paged", "lookup")]


def held_to_the_oracle(name: str, drafter: str, count: int) -> None:
    """Decode requests whose prompts are prefilled in several chunks, and hold each to what it gets alone."""
    chooser, target = random.Random(f"{name} {drafter}"), TARGETS[name]()
    letters, longest = ("abcdefgh", 12) if name == "table" else ("", 40)
    size = target.vocabulary_size
    requests = [random_request(chooser, f"r{number}", size, letters, longest) for number in range(count)]
    session = decoder_of(target, DRAFTERS[drafter](target)).session(chooser.choice([3, 5, 8]))
    answers = decoded(session, requests, chooser)
    for request in requests:
        assert_alone(target, request, answers[request.id])
    assert sum(answer.cancelled for answer in answers.values()) > count // 40


@pytest.fixture(autouse=True)
def costs_of_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORTHRUS_CACHE", str(tmp_path))


@pytest.mark.parametrize(("name", "drafter"), EVERY_RUN)
def test_requests_that_differ_in_all_settings_get_what_each_gets_alone(name: str, drafter: str) -> None:
    held_to_the_oracle(name, drafter, 200 if name == "table" else 50)


@pytest.mark.parametrize(("name", "drafter"), nightly_but([], CASES, thorough=THOROUGH))
def test_many_such_requests_in_every_engine(name: str, drafter: str) -> None:
    held_to_the_oracle(name, drafter, 200 if name == "table" else 100)


def test_a_draft_that_is_launched_early_writes_behind_the_prompts_that_are_through() -> None:
    """The keys of a prompt whose group is through stay, while another group's chunks and cycles go on."""
    for seed in range(6):
        chooser, target = random.Random(seed), recording_target(chunk=5)
        decoder = Decoder.of(target, launching_early(target), Coupled(), Stop(12))
        session = decoder.session(4)
        prompts = {name: [chooser.randrange(1, 40) for _ in range(length)] for name, length in LENGTHS.items()}
        session.add(prompts["first"], id="first")
        events = iter(session)
        next(events)
        for name in ("long", "short", "shorter"):
            session.add(prompts[name], id=name)
        results = {event.id: event.result.token_ids for event in events if event.result}
        for name, prompt in prompts.items():
            wanted = target_oracle(target)(prompt, Stop(12), results[name])
            assert results[name] == wanted.token_ids, (seed, name)


LENGTHS = {"first": 3, "long": 40, "short": 4, "shorter": 2}


@pytest.mark.parametrize("count", range(1, 9))
def test_rows_that_hold_no_request_are_nothing_to_a_drafter_that_chooses_its_length(count: int) -> None:
    target = table_target()
    session = decoder_of(target, DRAFTERS["auto"](target)).session(8)
    for number in range(count):
        session.add([number % 4, 1, 2, 1], id=str(number))
    assert sum(event.result is not None for event in session) == count
