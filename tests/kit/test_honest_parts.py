"""The kit accepts every honest part: all that is built in, and what the seeded bugs are planted in."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from support import bugs_of_large_verdicts, bugs_of_rows
from support.bugs_of_attention import Written
from support.bugs_of_coupling import Coupled
from support.bugs_of_drafters import Ahead, Claiming, Cycling
from support.bugs_of_fused_attention import AtOnce
from support.bugs_of_taps import Tapping, TappingAhead
from support.bugs_of_targets import over
from support.bugs_of_the_loop import Knowing
from support.bugs_of_trees import KnowingTrees, TappingTrees, WrittenTrees
from support.bugs_of_verifiers import Greedy, Sampler
from support.building import transformers_target
from support.families import tiny_model
from support.random_drafters import random_dflash, random_eagle3
from support.recurrent_table import RecurrentTable
from support.thorough import nightly_but, thorough_but
from torch import Tensor

from orthrus import Chance, Context, Draft, Plugins, Target
from orthrus.registry.catalog import PARTS
from orthrus.testing import (
    Outcome,
    PlainCache,
    PlainConsensus,
    PlainCoupled,
    PlainRejection,
    TableTarget,
    ViewTableTarget,
    factory_of,
    named_check,
)
from orthrus.testing.checks import EVERY_CHECK
from orthrus.testing.checks.drafter_taps import DRAFTER_TAPS
from orthrus.testing.doubles.drafters import Drawing, some_q
from orthrus_attention.sdpa import SdpaAttention
from orthrus_caches.static import StaticCache
from orthrus_drafters.prompt_lookup import PromptLookup
from orthrus_transformers.target import TransformersTarget

# What cannot be checked here, and the reason that it gives.
ELSEWHERE = {
    "draft_model": "another vocabulary",
    "flash": "CUDA",
    "flash_attention_2": "needs",
    "flash_attention_3": "needs",
    "flash_attention_4": "needs",
    "split": "GPU",
    "transformers": "",  # below, with a model
    "dflash": "",  # below, with random weights, like `eagle3`
    "eagle3": "",
}
REGISTERED = [
    (part.kind, part.name)
    for part in Plugins.load().catalog
    if part.kind in PARTS and (part.origin.startswith("orthrus_")) and part.name not in ELSEWHERE
]

# Those that draw, and what has whole distributions to visit, take 2 to 9 s each: every run tries their smallest cases.
SLOW = [
    ("attention", "flex"),  # torch compiles it for every shape
    ("cache", "dynamic"),
    ("cache", "quantized"),
    ("drafter", "cascade"),
    ("drafter", "diffusion"),
    ("drafter", "none"),
    ("drafter", "prompt_lookup"),
    ("drafter", "replay"),
    ("drafter", "suffix"),
    ("verifier", "consensus"),
    ("verifier", "coupled"),
    ("verifier", "rejection"),
]
SMALLEST = [("cache", "dynamic"), ("drafter", "cascade"), ("verifier", "consensus")]
# Drafters of few lines, held to all cases by night, and to the smallest in the thorough part.
PLAIN = [("drafter", "none"), ("drafter", "prompt_lookup"), ("drafter", "replay")]
SAME = [("verifier", "default")]  # it is `coupled`
QUICK = ["the targets' base", "attention written out"]
# Those with most to go wrong; the others are held to few cases of each check, and to all by night.
WHOLE = [
    "a drafter that draws",
    "a drafter that reads them ahead",
    "the samplers' base",
    "the coupled verifiers' base",
    "the plain cache",
    "a table with views",
]
FEW = 3  # cases of each check
# No seeded bug is planted in these.
BESIDES = [
    "a drafter that draws token by token",
    "a drafter that draws with noise",
    "prompt lookup of single tokens",
    "dflash for a table",
    "eagle3 for a table",
]

# Of targets in all checks of one part: the most that one needs is 7,189, for drawn trees, and each takes a millisecond.
MOST_PASSES = 8000


class OneByOne(Drawing):
    """Draw token by token, each from a single distribution [V], in float32, and report it."""

    def propose(self, context: Context, chance: Chance) -> Draft:
        width = min(2, context.max_room)
        tokens = torch.zeros(len(context.rows), width, dtype=torch.int64)
        drawn = (torch.arange(context.vocabulary_size) * 0.37).softmax(-1)  # float32
        for row, room in enumerate(context.room.tolist()):
            for place in range(min(width, room)):
                tokens[row, place] = chance.categorical(drawn)
        return Draft(tokens, context.room.clamp(max=width), drawn.expand(*tokens.shape, -1))


class Even(Drawing):
    """Draw evenly, by noise, and say so."""

    def propose(self, context: Context, chance: Chance) -> Draft:
        width, vocabulary = min(2, context.max_room), context.vocabulary_size
        tokens = chance.gumbel(context.keys, context.lengths[:, None] + torch.arange(width), vocabulary).argmax(-1)
        return Draft(tokens, context.room.clamp(max=width), torch.full((*tokens.shape, vocabulary), 1 / vocabulary))


HONEST: dict[str, tuple[str, Callable[..., Any]]] = {
    **bugs_of_rows.HONEST,
    **bugs_of_large_verdicts.HONEST,
    "the loop's drafter": ("drafter", Knowing),
    "the drafters' base": ("drafter", Cycling),
    "the base of those that draw": ("drafter", lambda target: Claiming(some_q(1, target.vocabulary_size), 2)),
    "a drafter that draws": ("drafter", lambda target: Drawing(some_q(1, target.vocabulary_size), 2, ragged=True)),
    "a drafter that draws token by token": ("drafter", lambda target: OneByOne(some_q(1, 2), 2)),
    "a drafter that draws with noise": ("drafter", lambda target: Even(some_q(1, 2), 2)),
    "a drafter that drafts ahead": ("drafter", Ahead),
    "a drafter that reads hidden states": ("drafter", Tapping),
    "a drafter that reads them ahead": ("drafter", TappingAhead),
    "dflash for a table": ("drafter", random_dflash),
    "eagle3 for a table": ("drafter", random_eagle3),
    "a drafter of trees that drafts ahead": ("drafter", KnowingTrees),
    "a drafter of trees that reads hidden states": ("drafter", TappingTrees),
    "prompt lookup of single tokens": ("drafter", lambda target: PromptLookup(2, 1, 4)),
    "the samplers' base": ("verifier", Sampler),
    "the greedy verifiers' base": ("verifier", Greedy),
    "the coupled verifiers' base": ("verifier", Coupled),
    "the definition of consensus": ("verifier", PlainConsensus),
    "the definition of coupling": ("verifier", PlainCoupled),
    "the definition of rejection": ("verifier", PlainRejection),
    "the plain cache": ("cache", PlainCache),
    "the targets' base": ("target", over(TableTarget, max_length=24)),
    "a table with views": ("target", over(ViewTableTarget)),
    "a table with states": ("target", over(RecurrentTable)),
    "attention written out": ("attention", Written),
    "attention written out for trees": ("attention", WrittenTrees),
    "attention written out for two kinds at once": ("attention", AtOnce),
}


def outcomes(kind: str, factory: Callable[..., Any]) -> list[Outcome]:
    return [check.outcome(factory) for check in EVERY_CHECK[kind]()]


@functools.cache
def of_honest(name: str) -> list[Outcome]:
    return outcomes(*HONEST[name])


def failures(results: list[Outcome]) -> list[str]:
    assert any(outcome.status == "passed" for outcome in results)
    return [outcome.reason for outcome in results if outcome.status not in ("passed", "did not apply")]


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return what grows by a place with every pass of a table: how long the checks take, without a clock."""
    lengths: list[int] = []
    own_pass = TableTarget.run_pass

    def counted(self: TableTarget, tokens: Tensor, *given: Any) -> Tensor:
        lengths.append(len(tokens))
        return own_pass(self, tokens, *given)

    monkeypatch.setattr(TableTarget, "run_pass", counted)
    return lengths


@pytest.mark.parametrize(
    ("kind", "name"),
    nightly_but(
        [part for part in REGISTERED if part not in SLOW + SAME],
        REGISTERED,
        thorough=[part for part in SLOW if part not in PLAIN and part != ("attention", "flex")],
    ),
)
def test_what_is_built_in_passes_soon(kind: str, name: str, passes: list[int]) -> None:
    assert failures(outcomes(kind, factory_of(name, kind))) == []
    assert len(passes) < MOST_PASSES
    assert bool(passes) == (kind in ("drafter", "verifier", "target"))


@pytest.mark.parametrize(("kind", "name"), thorough_but(SMALLEST, SMALLEST + PLAIN))
def test_the_smallest_cases_pass(kind: str, name: str) -> None:
    factory = factory_of(name, kind)
    assert failures([check.outcome(factory, check.cases[0]) for check in EVERY_CHECK[kind]()]) == []


@pytest.mark.skipif(torch.cuda.is_available(), reason="they can be checked here; tests/gpu does")
@pytest.mark.parametrize("name", [name for name, why in ELSEWHERE.items() if why])
def test_what_cannot_be_checked_here_says_why(name: str) -> None:
    results = outcomes(factory_of(name).kind, factory_of(name))
    assert {outcome.status for outcome in results} == {"did not apply"}
    assert all(ELSEWHERE[name] in outcome.reason for outcome in results)


@pytest.mark.parametrize("name", nightly_but(QUICK, HONEST, thorough=WHOLE))
def test_an_honest_part_passes(name: str) -> None:
    assert failures(of_honest(name)) == []


BY_THEIR_SMALLEST = [name for name in HONEST if name not in [*QUICK, *WHOLE, *BESIDES]]
DEAR = ["the definition of rejection"]  # it sums over the vocabulary, token by token


@pytest.mark.parametrize(
    "name", nightly_but([], BY_THEIR_SMALLEST, thorough=[name for name in BY_THEIR_SMALLEST if name not in DEAR])
)
def test_an_honest_part_passes_the_smallest_cases(name: str) -> None:
    kind, factory = HONEST[name]
    assert failures([check.outcome(factory, *check.cases[:FEW]) for check in EVERY_CHECK[kind]()]) == []


@pytest.mark.parametrize(
    "family", nightly_but([], ["llama", "gemma2", "lfm2", "qwen3_next"], thorough=["gemma2", "lfm2"])
)
def test_models_of_transformers_pass(family: str) -> None:
    target: Target = transformers_target(family)
    results = outcomes("target", lambda cache: target)
    assert failures(results) == []
    assert next(outcome for outcome in results if outcome.check.name == "views_write_scratch_only").status == "passed"


def in_bfloat16(family: str) -> TransformersTarget:
    return TransformersTarget(tiny_model(family, dtype=torch.bfloat16), None, StaticCache(slots=8), SdpaAttention())


@pytest.mark.parametrize("family", nightly_but([], ["llama", "mamba", "qwen3"], thorough=["llama"]))
def test_models_of_16_bits_pass(family: str) -> None:
    target: Target = in_bfloat16(family)
    assert failures(outcomes("target", lambda cache: target)) == []


def test_models_of_16_bits_are_held_to_what_these_round(monkeypatch: pytest.MonkeyPatch) -> None:
    """Logits of their passes are in float32, which keeps the sums of the head, and no finer than the layers before."""
    target, check = in_bfloat16("llama"), named_check("target", "score_gives_its_own_logits")
    assert check.outcome(lambda cache: target).status == "passed"
    own = target.score
    monkeypatch.setattr(target, "score", lambda context, draft: own(context, draft).roll(1, 1))
    assert check.outcome(lambda cache: target).status == "failed"


@pytest.mark.thorough
def test_drafters_of_every_kind_are_drawn_from() -> None:
    outcomes_of_it = [outcome for outcome in of_honest("a drafter that draws") if outcome.check not in DRAFTER_TAPS]
    assert {outcome.status for outcome in outcomes_of_it} == {"passed"}  # it reads no taps


@pytest.mark.parametrize("make", thorough_but([Tapping, random_eagle3], [Tapping, random_dflash, random_eagle3]))
def test_drafters_that_read_hidden_states_have_those_of_what_was_committed(make: Callable[..., Any]) -> None:
    results = [check.outcome(make) for check in DRAFTER_TAPS]
    assert [outcome.reason for outcome in results if outcome.status != "passed"] == []
