"""The drafter `cascade`: lossless whoever drafts, soon with whom it pays, and never far behind the best of them."""

from __future__ import annotations

import inspect
import itertools
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.building import assert_held, decode_with, family_oracle, table_target, target_oracle, transformers_target
from support.drafters import ScriptedDrafter
from support.families import VOCABULARY
from support.recordings import recording_target
from support.sampled import DrawingDrafter, NoisyDrafter, coupled_answers, decoded, greedy_answers, random_q
from support.sessions import assert_alone, decoder_of, random_request
from support.sessions import decoded as session_decoded
from support.thorough import nightly_but
from support.timed import WrongDrafter, timed_target
from support.views import random_view

import orthrus
from orthrus import Chance, ConfigError, Context, Draft, Drafter, Result, Sampling, Step, Stop, Target, optional
from orthrus.testing import TableTarget
from orthrus.testing.profiles import fewer
from orthrus.testing.strategies import batches, samplings, stops, tables
from orthrus_caches.dynamic import DynamicCache
from orthrus_cascade.choice import NOBODY, Choice
from orthrus_cascade.drafter import Cascade
from orthrus_cascade.evidence import PATIENCE, CycleState, CycleTimes
from orthrus_diffusion.drafter import Diffusion
from orthrus_diffusion.one_pass import OnePassDiffusion
from orthrus_drafters.none import NoDrafter
from orthrus_drafters.prompt_lookup import PromptLookup
from orthrus_verifiers.consensus import Consensus
from orthrus_verifiers.coupled import Coupled

PROMPTS = [[0], [1, 2], [3, 1, 0], [2, 2]]
LIMIT = 200


def members(kinds: Sequence[str], truths: list[tuple[int, ...]]) -> list[Drafter]:
    q = random_q(1, 4)
    made = {
        "scripted": lambda: ScriptedDrafter(truths, 4, 0.8, [0, 1, 2, 5]),
        "drawn": lambda: DrawingDrafter(q, 3, ragged=True),
        "noisy": lambda: NoisyDrafter(q, 4),
        "prompt lookup": lambda: PromptLookup(2, 1, 4),
        "none": NoDrafter,
    }
    return [made[kind]() for kind in kinds]


@fewer(4)
@given(
    target=tables(4, cache=DynamicCache),
    prompts=batches(4, longest=6, rows=6),
    stop=stops(4, 20, tokens=1, strings=1),
    sampling=samplings(4, temperatures=(0.0, 0.5, 1.0)),
    kinds=st.lists(st.sampled_from(["scripted", "drawn", "noisy", "prompt lookup", "none"]), min_size=2, max_size=3),
    seed=st.integers(0, 1000),
    batch=st.integers(1, 5),
)
def test_the_text_is_the_oracles_whoever_drafts(
    target: TableTarget,
    prompts: list[list[int]],
    stop: Stop,
    sampling: Sampling,
    kinds: list[str],
    seed: int,
    batch: int,
) -> None:
    ids = [str(index) for index in range(len(prompts))]
    drawn = sampling.temperature > 0
    if drawn:
        wanted = coupled_answers(target, prompts, stop, sampling, seed, ids)
    else:
        wanted = greedy_answers(target, prompts, stop, sampling)
    for verifier in (Coupled(), Consensus())[: 2 - drawn]:
        drafters = members(kinds, [answer.token_ids for answer in wanted])
        drafter = Cascade(drafters, clock=random.Random(seed).random)  # whatever a clock says
        assert decoded(target, drafter, verifier, prompts, stop, sampling, seed, batch) == wanted


class Paid:
    """A scripted drafter that takes passes, right as often as a function of the answer's length says."""

    needs: frozenset[str] = frozenset()
    learns = False

    def __init__(
        self,
        truths: Sequence[Sequence[int]],
        right: Callable[[int], float],
        passes: float,
        lengths: Sequence[int] = (5,),
    ) -> None:
        self.asked: list[int] = []  # the length of the longest answer whenever it was asked
        self._drafters = {
            chance: ScriptedDrafter(truths, 4, chance, lengths) for chance in {right(place) for place in range(LIMIT)}
        }
        self._right, self._passes = right, passes

    def start(self, context: Context, rows: Sequence[int]) -> None:
        for drafter in self._drafters.values():
            drafter.start(context, rows)

    def propose(self, context: Context, chance: Chance) -> Draft:
        place = max(len(row.output) for row in context.rows)
        self.asked.append(place)
        draft = self._drafters[self._right(min(place, LIMIT - 1))].propose(context, chance)
        return replace(draft, passes=self._passes)

    def observe(self, step: Step) -> None:
        pass


def always(right: float) -> Callable[[int], float]:
    return lambda place: right


# How often each member is right, and what its drafts cost; in the last one it changes in the middle of an answer.
TEAMS: dict[str, list[tuple[Callable[[int], float], float]]] = {
    "the second of two that cost nothing": [(always(0.0), 0), (always(0.9), 0)],
    "the first of two that cost nothing": [(always(0.9), 0), (always(0.0), 0)],
    "the dear one": [(always(0.1), 0), (always(0.95), 1)],
    "the cheap one": [(always(0.8), 0), (always(0.95), 3)],
    "the cheaper of two": [(always(0.9), 3), (always(0.9), 0.5)],
    "neither": [(always(0.0), 1), (always(0.0), 2)],
    "one, then the other": [
        (lambda place: 0.95 * (place < LIMIT / 2), 0.2),
        (lambda place: 0.95 * (place >= LIMIT / 2), 0.2),
    ],
}


def passes_of(results: Sequence[Result]) -> float:
    return sum(result.measures.passes for result in results)


TEAMS_AND_BATCHES = list(itertools.product(TEAMS, (1, 4)))
EVERY_RUN = [("one, then the other", 4)]


@pytest.mark.parametrize(("team", "batch"), nightly_but(EVERY_RUN, TEAMS_AND_BATCHES, thorough=TEAMS_AND_BATCHES[::2]))
def test_it_is_never_far_behind_the_best(team: str, batch: int) -> None:
    target, stop = table_target(2), Stop(LIMIT)
    truths = [target_oracle(target)(prompt, stop).token_ids for prompt in PROMPTS]

    def passes(drafter: Drafter) -> float:
        return passes_of(decode_with(target, drafter, PROMPTS, stop, batch=batch))

    paid = [Paid(truths, right, cost) for right, cost in TEAMS[team]]
    best = min(passes(drafter) for drafter in [NoDrafter(), *paid])
    together = passes(Cascade([Paid(truths, right, cost) for right, cost in TEAMS[team]], "passes"))
    assert together < 1.12 * best + 8
    if team == "one, then the other":
        assert together < 0.75 * best


@pytest.mark.parametrize(("team", "better"), [("the second of two that cost nothing", 1), ("the cheap one", 0)])
def test_it_prefers_the_better(team: str, better: int) -> None:
    target, stop = table_target(2), Stop(LIMIT)
    truths = [target_oracle(target)(prompt, stop).token_ids for prompt in PROMPTS]
    paid = [Paid(truths, right, cost) for right, cost in TEAMS[team]]
    decode_with(target, Cascade(paid, "passes"), PROMPTS[:2], stop, batch=1)
    assert len(paid[better].asked) > 10 * len(paid[1 - better].asked) > 0


def test_one_that_has_nothing_is_passed_over() -> None:
    target, stop = table_target(2), Stop(40)
    truth = target_oracle(target)(PROMPTS[1], stop).token_ids
    drafter = Cascade([NoDrafter(), ScriptedDrafter([truth], 4, 1.0, [4])], "passes")
    (result,) = decode_with(target, drafter, [PROMPTS[1]], stop)
    assert set(result.measures.accepted_per_cycle[:-1]) == {4}
    assert drafter.report() == {"drafters": "none:0% ScriptedDrafter:100% none:0%"}


@pytest.mark.parametrize(("seconds", "drafts"), [(0.01, True), (0.9, False)])
def test_seconds_tell_what_passes_do_not(seconds: float, drafts: bool) -> None:
    # Each further token of a pass takes so long: four of five drafts are accepted, which is not worth four seconds.
    target = timed_target(lambda tokens: 1 + seconds * (tokens - 1), seed=2)
    truths = [target_oracle(target)(prompt, Stop(LIMIT)).token_ids for prompt in PROMPTS]
    paid = Paid(truths, always(0.8), 0)
    drafter = Cascade([paid, NoDrafter()], clock=target.clock)
    results = decode_with(target, drafter, PROMPTS[:2], Stop(LIMIT), batch=1)
    cycles = sum(result.measures.cycles for result in results)
    assert (len(paid.asked) > 0.95 * cycles) is drafts
    assert (len(paid.asked) < 0.1 * cycles) is not drafts


def test_cycles_in_which_something_is_compiled_do_not_count() -> None:
    target, spent = table_target(2), [0.0]
    truths = [target_oracle(target)(prompt, Stop(LIMIT)).token_ids for prompt in PROMPTS]

    class Compiling(Paid):
        """Take a minute for the first draft of a width, and then no time at all."""

        widths: ClassVar[set[int]] = set()

        def propose(self, context: Context, chance: Chance) -> Draft:
            draft = super().propose(context, chance)
            spent[0] += 60 * (draft.tokens.shape[1] not in self.widths)
            self.widths.add(draft.tokens.shape[1])
            return draft

    def clock() -> float:
        spent[0] += 0.01
        return spent[0]

    compiling = Compiling(truths, always(0.9), 0, (3, 4, 5, 6))
    results = decode_with(target, Cascade([compiling, NoDrafter()], clock=clock), PROMPTS[:2], Stop(LIMIT), batch=1)
    assert len(compiling.asked) > 0.7 * sum(result.measures.cycles for result in results)


@given(
    usual=st.lists(st.floats(1.0, 2.9), min_size=3, max_size=3),
    rare=st.lists(st.floats(10.0, 1e4), max_size=6),
    seed=st.integers(0, 99),
)
def test_a_time_is_the_mean_of_those_that_agree_and_grows_old(usual: list[float], rare: list[float], seed: int) -> None:
    times, shuffled = CycleTimes(), [*usual, *rare]
    random.Random(seed).shuffle(shuffled)
    for seconds in shuffled:
        times.add(seconds, 0)
    assert times.mean(1) == pytest.approx(sum(usual) / 3)
    assert times.mean(PATIENCE) is not None
    assert times.mean(PATIENCE + 1) is None
    times.add(usual[0], PATIENCE + 1)
    assert times.mean(3 * PATIENCE) is not None  # it takes longer from now on
    times.add(usual[0] / 100, 3 * PATIENCE)  # what made it slow is over
    assert times.mean(3 * PATIENCE) is None


@pytest.mark.parametrize(("launched", "best"), [(False, 0), (True, 1)])
def test_a_draft_that_was_launched_is_left_only_for_one_that_is_better(launched: bool, best: int) -> None:
    """Whoever drafts waits for it, so what costs nothing itself takes as long; then tokens alone count."""
    choice, free, launching = Choice(2, "seconds"), 0, 1
    for number in range(60):
        early, late = CycleState(1, True), CycleState(1, False)
        choice.observe(free, [(0, 2 + number % 2)], early, 10, 1.0, 1.4)
        choice.observe(free, [(0, 2 + number % 2)], late, 10, 1.0, 0.9)
        choice.observe(launching, [(0, 4)], early, 15, 2.0, 1.4)
        choice.observe(launching, [(0, 4)], late, 15, 2.0, 1.7)
        choice.observe(NOBODY, [], late, 0, 1.0, 0.9)
    assert choice.best([0], CycleState(1, launched), {}) == best
    assert choice.best([0], CycleState(1, launched), {free: []}) == launching


@pytest.mark.parametrize("launches", [True, False, None])
def test_a_drafter_that_launches_is_left_where_nobody_pays(launches: bool | None) -> None:
    """Nothing of it is ever accepted, and it takes three times a plain cycle, launched or not."""
    target, spent = table_target(2), [0.0]

    class Launching(NoDrafter):
        asked = 0

        def propose(self, context: Context, chance: Chance) -> Draft:
            self.asked, spent[0] = self.asked + 1, spent[0] + 2
            return Draft(torch.zeros(len(context.rows), 3, dtype=torch.int64), context.room.clamp(max=0), passes=1)

        def ahead(self, context: Context, chance: Chance) -> bool | None:
            return launches

    def clock() -> float:
        spent[0] += 0.5
        return spent[0]

    launching = Launching()
    results = decode_with(target, Cascade([PromptLookup(3, 3, 2), launching], clock=clock), PROMPTS[:1], Stop(LIMIT))
    assert launching.asked < 0.2 * sum(result.measures.cycles for result in results)


def test_all_observe_and_only_the_drafts_of_the_one_that_drafted_were_accepted() -> None:
    class Watching(NoDrafter):
        def __init__(self) -> None:
            self.accepted: list[tuple[int, ...]] = []
            self.tokens: list[int] = []

        def observe(self, step: Step) -> None:
            assert not step.own
            self.accepted.append(step.accepted)
            self.tokens += step.committed[0]

    target, stop = table_target(2), Stop(30)
    truth = target_oracle(target)(PROMPTS[1], stop).token_ids
    watching = Watching()
    drafter = Cascade([watching, ScriptedDrafter([truth], 4, 1.0, [4])], "passes")
    decode_with(target, drafter, [PROMPTS[1]], stop)
    assert tuple(watching.tokens) == truth[1:]
    assert set(watching.accepted) == {(0,)}


@pytest.mark.parametrize("dropped", [True, False])
def test_of_a_draft_that_was_dropped_nothing_is_learned(dropped: bool) -> None:
    class Dropped(WrongDrafter):
        """Choose and cut a draft in every cycle, of which nothing is scored."""

        chosen: ClassVar[list[tuple[int, int]]] = []

        def propose(self, context: Context, chance: Chance) -> Draft:
            self.chosen.append((self.auto.choose(context), self.auto.keep(context, [[0.9] * 7] * len(context.rows))))
            return context.empty_draft()

        def observe(self, step: Step) -> None:
            assert not any(step.accepted)
            super().observe(step.without_acceptance() if dropped else step)

    drafter = Dropped(timed_target(lambda tokens: 1 + tokens / 10), most=7)
    decode_with(drafter.target, drafter, PROMPTS[:2], Stop(60))
    sizes, kept = zip(*drafter.chosen[:40], strict=True)  # there is room for all of it
    assert sizes[0] > 0 and kept[0] > 0
    assert (len(set(sizes)) == 1) is dropped and (len(set(kept)) == 1) is dropped


def statically(part: object, name: str) -> bool:
    """Tell whether isinstance sees a member, as it looks from Python 3.12 on."""
    return inspect.getattr_static(part, name, None) is not None


class Early(NoDrafter):
    needs = frozenset({"views"})

    def ahead(self, context: Context, chance: Chance) -> None: ...

    def fingerprint(self) -> str:
        return "early"


def test_it_has_the_abilities_that_its_drafters_have() -> None:
    both, plain = Cascade([NoDrafter(), Early()]), Cascade([NoDrafter(), PromptLookup()])
    assert both.needs == {"views"} and plain.needs == frozenset()
    for drafter, has in ((both, True), (plain, False)):
        for ability, member in ((optional.DraftsAhead, "ahead"), (optional.HasFingerprint, "fingerprint")):
            assert isinstance(drafter, ability) == statically(drafter, member) == has
    assert both.fingerprint() == "early"
    assert plain.moves_rows and not Cascade([NoDrafter(), ScriptedDrafter([], 4, 1.0, [1])]).moves_rows


@pytest.mark.thorough
@fewer(10)
@given(
    prompts=batches(VOCABULARY, longest=14, rows=4),
    limit=st.integers(0, 40),
    right=st.sampled_from([0.0, 0.7]),
    batch=st.integers(1, 4),
)
def test_what_was_launched_ahead_is_asked_for(prompts: list[list[int]], limit: int, right: float, batch: int) -> None:
    class Launched(Diffusion):
        """Note that a draft was launched, and that it was asked for in the next cycle."""

        waiting: int | None = None
        count = 0

        def ahead(self, context: Context, chance: Chance) -> None:
            super().ahead(context, chance)
            self.waiting, self.count = context.cycle, self.count + 1

        def propose(self, context: Context, chance: Chance) -> Draft:
            assert self.waiting in (None, context.cycle - 1)
            self.waiting = None
            return super().propose(context, chance)

    target = early_target()
    truths = [family_oracle()(prompt, Stop(limit)).token_ids for prompt in prompts]
    early = Launched(target, 5, VOCABULARY - 1, "noisy", early=True)
    drafter = Cascade([ScriptedDrafter(truths, VOCABULARY, right, [0, 3]), early], "passes")
    results = decode_with(target, drafter, prompts, Stop(limit), batch=batch)
    assert_held(results, family_oracle(), prompts, Stop(limit))
    assert early.count > 0 or limit < 12


TARGETS: list[Any] = []


def early_target() -> Target:
    if not TARGETS:
        TARGETS.append(recording_target(chunk=5))
        random_view(TARGETS[0], "noisy", noise=0.02)
    made: Target = TARGETS[0]
    return made


def test_sessions() -> None:
    target = table_target(3)
    drafter = Cascade([PromptLookup(2, 1, 4), NoisyDrafter(random_q(1, 4), 3)])
    chooser = random.Random(1)
    requests = [random_request(chooser, f"r{number}", 4, "abcd") for number in range(12)]
    answers = session_decoded(decoder_of(target, drafter).session(3), requests, chooser)
    for request in requests:
        assert_alone(target, request, answers[request.id])


CONFIG = {
    "target": {"name": "table", "alphabet": "abcdefgh ", "seed": 0},
    "cache": {"name": "dynamic"},
    "verifier": {"name": "coupled"},
}


OF_MODEL = {"name": "draft_model", "target": {"name": "table", "sead": 1}}


def test_from_a_config() -> None:
    drafters = [{"name": "prompt_lookup", "length": 4}, {"name": "draft_model", "target": {"name": "table", "seed": 1}}]
    wanted = orthrus.load({**CONFIG, "drafter": {"name": "none"}}).generate(["abc", "b"])
    decoder = orthrus.load({**CONFIG, "drafter": {"name": "cascade", "drafters": drafters}})
    assert [result.token_ids for result in decoder.generate(["abc", "b"])] == [result.token_ids for result in wanted]


def test_a_drafter_that_drafts_while_scoring_is_refused() -> None:
    target = transformers_target("llama")
    random_view(target, "noisy")
    with pytest.raises(
        orthrus.BuildError, match=r"'diffusion'.*'cascade'.*; set drafter\.drafters\[1\]\.cycle=two_pass"
    ):
        Cascade([NoDrafter(), OnePassDiffusion(target, 6, VOCABULARY - 1, "noisy")])


@pytest.mark.parametrize(
    ("options", "error", "sentence"),
    [
        ({"drafters": [{"name": "none"}]}, ConfigError, "drafter.drafters: must be two at least, not 1"),
        ({"drafters": [{"name": "none"}, {"length": 3}]}, ConfigError, "number 1 must have the name of a drafter"),
        ({"drafters": [{"name": "none"}, {"name": "non"}]}, ConfigError, "drafter.drafters[1].name: unknown drafter"),
        ({"drafters": [{"name": "none"}, OF_MODEL]}, ConfigError, "drafter.drafters[1].target.sead: unknown option"),
        ({}, orthrus.BuildError, "drafter 'diffusion' needs views, which target 'TableTarget' does not offer"),
    ],
)
def test_bad_options_are_one_sentence(options: dict[str, Any], error: type[Exception], sentence: str) -> None:
    with pytest.raises(error) as raised:
        orthrus.load({**CONFIG, "drafter": {"name": "cascade", **options}})
    assert sentence in str(raised.value)
