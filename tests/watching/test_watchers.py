"""Watch hooks: what listeners are told is what happened, nothing depends on it, and without any nothing is done."""

from __future__ import annotations

import random
import sys
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.building import table_target
from support.program import TABLE
from support.recordings import recording_target
from support.sessions import decoded, decoder_of, random_request
from support.small_sessions import LETTERS, target_of
from support.views import random_view
from support.watching import EndListener, Listener, assert_told, plain, watched_by

import orthrus
from orthrus import BuildError, ConfigError, Decoder, InputError, PluginError, Plugins, Stop, hookimpl, step_recorder
from orthrus.moments import HostMoments
from orthrus.testing.profiles import fewer
from orthrus_diffusion.drafter import Diffusion
from orthrus_drafters.none import NoDrafter
from orthrus_drafters.prompt_lookup import PromptLookup
from orthrus_verifiers.consensus import Consensus

PROMPTS = st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=8), min_size=1, max_size=5)


@fewer(4)
@given(prompts=PROMPTS, batch=st.integers(1, 3), seed=st.integers(0, 9), most=st.integers(0, 12))
def test_what_is_told_is_what_happened(prompts: list[list[int]], batch: int, seed: int, most: int) -> None:
    alone = Decoder.of(table_target(seed), PromptLookup(1, 1, 4), Consensus(), Stop(most))
    listener = Listener()
    watched = watched_by(alone, listener)
    results = watched.generate(prompts, batch=batch, ids=[f"p{index}" for index in range(len(prompts))])
    expected = alone.generate(prompts, batch=batch, ids=[f"p{index}" for index in range(len(prompts))])
    assert [plain(result) for result in results] == [plain(result) for result in expected]
    assert_told(listener, results)


@fewer(12)
@given(seed=st.integers(0, 2**32), batch=st.integers(1, 3))
def test_sessions_of_many_settings_are_told_of_and_not_changed(seed: int, batch: int) -> None:
    answers = []
    listener = Listener()
    for listeners in ([], [listener]):
        chooser, target = random.Random(seed), target_of()
        requests = [random_request(chooser, f"r{index}", 8, LETTERS) for index in range(6)]
        decoder = watched_by(decoder_of(target, PromptLookup(2, 1, 4)), *listeners)
        answers.append(decoded(decoder.session(batch), requests, chooser))
    assert {id: answer.tokens for id, answer in answers[0].items()} == {
        id: answer.tokens for id, answer in answers[1].items()
    }
    assert [answer.text for answer in answers[0].values()] == [answer.text for answer in answers[1].values()]
    assert_told(listener, [answer.result for answer in answers[1].values() if answer.result])


@pytest.mark.parametrize("early", [False, True])
def test_drafts_that_are_launched_ahead_are_told_as_they_were(early: bool) -> None:
    target = recording_target(slots=64)
    random_view(target, "view")
    decoder = Decoder.of(target, Diffusion(target, 4, 3, "view", early=early), Consensus(), Stop(16))
    listener = Listener()
    results = watched_by(decoder, listener).generate([[1, 2, 1, 2, 1], [2, 3]], batch=2, ids=["a", "b"])
    assert [plain(result) for result in results] == [
        plain(result) for result in decoder.generate([[1, 2, 1, 2, 1], [2, 3]], batch=2, ids=["a", "b"])
    ]
    assert_told(listener, results)
    assert any(row.accepted for step in listener.steps for row in step.rows)


def calls(decoder: Decoder, prompts: list[list[int]]) -> Counter[str]:
    """Return how many functions of each module are called while prompts are answered."""
    counted: Counter[str] = Counter()

    def count(frame: Any, event: str, argument: object) -> None:
        if event == "call":
            counted[frame.f_globals.get("__name__", "")] += 1

    session = decoder.session(2)
    for prompt in prompts:
        session.add(prompt)
    before = sys.getprofile()
    sys.setprofile(count)
    try:
        list(session)
    finally:
        sys.setprofile(before)
    return counted


WATCHING = ("orthrus.step_recorder", "orthrus.moments", "orthrus.registry.watchers", "orthrus.watched", "pluggy")


def test_nothing_is_done_for_nobody() -> None:
    decoder = Decoder.of(table_target(), PromptLookup(1, 1, 4), Consensus(), Stop(20))
    prompts = [[1, 2, 1, 2], [3, 3], [0]]
    alone = calls(decoder, prompts)

    def of_watching(counted: Counter[str]) -> dict[str, int]:
        return {name: calls for name, calls in counted.items() if name.startswith(WATCHING)}

    assert of_watching(alone) == {}
    ends = calls(watched_by(decoder, EndListener()), prompts)
    assert not any(name.startswith(("orthrus.step_recorder", "orthrus.moments")) for name in ends)
    assert of_watching(calls(watched_by(decoder, Listener()), prompts)).keys() >= {*WATCHING[:3]}


def test_seconds_are_those_of_the_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(step_recorder, "moments_of", lambda device: HostMoments(lambda: clock[0]))

    def takes(owner: Any, name: str, seconds: float) -> None:
        own = getattr(owner, name)

        def slowly(*arguments: Any) -> Any:
            clock[0] += seconds
            return own(*arguments)

        monkeypatch.setattr(owner, name, slowly)

    class Ahead(NoDrafter):
        def ahead(self, context: Any, chance: Any) -> None:
            clock[0] += 16.0

    target, drafter, verifier = table_target(), Ahead(), Consensus()
    for owner, name, seconds in [
        (target, "prefill", 1.0),
        (drafter, "propose", 2.0),
        (target, "score", 4.0),
        (verifier, "verify", 8.0),
    ]:
        takes(owner, name, seconds)
    listener = Listener()
    watched_by(Decoder.of(target, drafter, verifier, Stop(4)), listener).generate([[1]])
    seconds = [
        (step.seconds.prefill, step.seconds.draft, step.seconds.score, step.seconds.verify) for step in listener.steps
    ]
    first, *rest = seconds
    assert first == (1.0, 0.0, 0.0, 8.0)
    assert rest == [(0.0, 2.0, 4.0, 8.0), (0.0, 18.0, 4.0, 8.0), (0.0, 18.0, 4.0, 8.0)]


def test_a_stream_is_told_of_and_steps_that_measure_are_not() -> None:
    decoder, listener = Decoder.of(target_of(), NoDrafter(), Consensus(), Stop(5)), Listener()
    watched = watched_by(decoder, listener)
    list(watched.steps([[1, 2]])[1])
    assert not listener.steps
    stream = watched.stream([1, 2], id="mine")
    list(stream)
    assert_told(listener, [stream.result])


class Raising:
    """Raise an error after the second step."""

    def __init__(self) -> None:
        self.steps = 0

    @hookimpl
    def after_step(self, step: object) -> None:
        self.steps += 1
        if self.steps == 2:
            raise InputError("the second step")


def test_an_error_of_a_watcher_reaches_the_caller_and_loses_nothing() -> None:
    decoder = Decoder.of(target_of(), NoDrafter(), Consensus(), Stop(5))
    session = watched_by(decoder, Raising()).session(1)
    session.add([1, 2], id="a")
    events = []
    with pytest.raises(InputError, match="the second step"):
        events.extend(session.advance())
        session.advance()
    events += session
    [expected] = decoder.generate([[1, 2]], ids=["a"])
    assert tuple(token for event in events for token in event.token_ids) == expected.token_ids


def watching_plugin(factory: Any, name: str = "noted") -> Any:
    class Plugin:
        @hookimpl
        def register_watchers(self, register: Any) -> None:
            register(name, factory)

    return Plugin()


class Misspelled(Listener):
    @hookimpl
    def after_steps(self, step: object) -> None: ...


class Unmarked:
    def after_step(self, step: object) -> None: ...


class WithDefault:
    @hookimpl
    def after_step(self, step: object = None) -> None: ...


class WithStranger:
    @hookimpl
    def after_step(self, step: object, tokens: object) -> None: ...


@pytest.mark.parametrize(
    ("made", "why"),
    [
        (object(), "it has neither of after_step and after_generation"),
        (Misspelled(), "unknown hook 'after_steps'"),
        (Unmarked(), "'after_step' is not marked with @orthrus.hookimpl"),
        (WithDefault(), "hook 'after_step' gives step a default"),
        (WithStranger(), "tokens"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_no_watcher_is_refused_when_built(made: object, why: str) -> None:
    plugin = watching_plugin(lambda options, parts: made)
    with pytest.raises(BuildError, match=why) as raised:
        orthrus.load(TABLE, plugins=[plugin], noted={})
    assert str(raised.value).startswith("watcher 'noted' of plugin 'Plugin' is no watcher: ")
    orthrus.load(TABLE, plugins=[plugin])  # nobody asks for it


def test_a_watcher_is_on_where_its_key_is_written_and_a_plugin_listens_always() -> None:
    made: list[Listener] = []

    def make(options: object, parts: Any) -> Listener:
        assert parts.drafter is not None and parts.target is not None
        made.append(Listener())
        return made[-1]

    always = Listener()
    for overrides, count in [({}, 0), ({"noted": None}, 0), ({"noted": {}}, 1)]:
        decoder = orthrus.load(TABLE, plugins=[watching_plugin(make), always], stop={"max_new_tokens": 3}, **overrides)
        results = decoder.generate(["abc"], ids=["x"])
        assert len(made) == count
    assert_told(made[0], results)
    assert [told.result.id for told in always.generations] == ["x"] * 3


def test_wrong_keys_and_values_are_told_as_of_any_section() -> None:
    plugin = watching_plugin(lambda options, parts: Listener())
    with pytest.raises(ConfigError, match=r"noted.file: unknown option 'file'; none is known"):
        orthrus.load(TABLE, plugins=[plugin], dotted=["noted.file=x"])
    with pytest.raises(ConfigError, match=r"noted: must be a mapping, not 'yes'"):
        orthrus.load(TABLE, plugins=[plugin], noted="yes")
    with pytest.raises(PluginError, match="a watcher must not be called 'stop': every config has one of this name"):
        Plugins.load([watching_plugin(Listener, "stop")])
    with pytest.raises(PluginError, match="a watcher must not be called 'fit': there is a section of this name"):
        Plugins.load([watching_plugin(Listener, "fit")])
