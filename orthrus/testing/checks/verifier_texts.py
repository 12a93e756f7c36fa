"""Checks of texts decoded with a verifier: greedily, by coupled sampling, and every outcome of sampling that draws."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from orthrus.chance import Chance
from orthrus.interfaces import Drafter, Verifier
from orthrus.optional import is_coupled
from orthrus.reference.oracle import OracleAnswer
from orthrus.sampling import token_probabilities
from orthrus.testing.check import BrokenRuleError, Factory, NotApplicableError, check
from orthrus.testing.checks.enumeration import NoiseError, distribution
from orthrus.testing.checks.exactness import hold_distribution
from orthrus.testing.doubles.drafters import Drawing, Scripted, WrongOnce, some_q
from orthrus.testing.doubles.spies import WatchedVerifier, compare_texts, decoded
from orthrus.testing.scenes import Scene, ladder
from orthrus.values import Draft, Verdict

SMALL = Scene(vocabulary=3, order=1, max_new_tokens=3, temperature=1.0)
STOPPED = replace(SMALL, seed=1, temperature=0.7, stop_token_ids=(2,), prompts=((0, 1),))
PENALIZED = replace(SMALL, seed=4, repetition_penalty=1.7)
TRUNCATED = replace(SMALL, seed=3, top_k=2)
RAGGED = Scene(seed=2, vocabulary=2, order=1, prompts=((0,), (1, 0, 1)), max_new_tokens=2, temperature=1.0)
LONG = [
    Scene(seed=seed, prompts=((0, 1), (2,), (1, 1, 2))[: 1 + 2 * seed], max_new_tokens=55, vocabulary=5, gap=gap)
    for seed in range(2)
    for gap in (None, 1e-3, 1e-6)
]
MISTAKES = (0, 1, 6, 7, 8, 15, 16, 19, 31, 32, 33, 39)
WAITING = replace(RAGGED, seed=5, batch=1)


@check("verifier", ladder(21))
def greedy_text(make: Factory, scene: Scene) -> None:
    """At temperature 0 the text is what greedy decoding gives, whatever is drafted and in whatever batch."""
    target = scene.target()
    truths = scene.truths(target)
    drafter = Scripted(_by_key(scene, truths), scene.vocabulary, scene.seed)
    compare_texts(decoded(scene, target, drafter, make()), truths)


@check("verifier", LONG)
def long_drafts_are_kept_up_to_the_first_mistake(make: Factory, scene: Scene) -> None:
    """Of drafts of 40 tokens all is kept when they are right, and what is before it when one token is wrong."""
    truths = _by_key(scene, scene.truths(scene.target()))
    for wrong in (None, *MISTAKES):
        drafter = WrongOnce(truths, scene.vocabulary, wrong)
        watched = WatchedVerifier(make(), lambda context, draft, logits, verdict: _hold_count(draft, verdict, wrong))  # noqa: B023  # used at once
        decoded(scene, scene.target(), drafter, watched)


def _hold_count(draft: Draft, verdict: Verdict, wrong: int | None) -> None:
    """Raise BrokenRuleError where another number is accepted than of drafts that are right but for one place."""
    for row, (length, accepted) in enumerate(zip(draft.lengths.tolist(), verdict.accepted.tolist(), strict=True)):
        right = length if wrong is None else min(wrong, length)
        if accepted != right:
            flaw = "right throughout" if wrong is None else f"wrong at place {wrong} alone"
            raise BrokenRuleError(f"{accepted} of {length} tokens accepted of a draft that is {flaw}", f"row {row}")


@check("verifier", ladder(14, temperature=0.8))
def coupled_text(make: Factory, scene: Scene) -> None:
    """A coupled verifier says what the noise of seed, request and position decides: same noise, same text."""
    verifier: Verifier = make()
    if not is_coupled(verifier):
        raise NotApplicableError("the verifier does not declare `coupled`")
    target = scene.target()
    truths = scene.truths(scene.target(), Chance(scene.seed))
    drafter = Scripted(_by_key(scene, truths), scene.vocabulary, scene.seed)
    compare_texts(decoded(scene, target, drafter, verifier), truths)


@check("verifier", [SMALL, STOPPED, PENALIZED])
def exact_with_drawn_drafts(make: Factory, scene: Scene) -> None:
    """With drafts drawn from any q every text has the probability that the target gives it, to 1e-12."""
    _hold(make, scene, lambda: Drawing(some_q(scene.seed, scene.vocabulary), 2))


@check("verifier", [SMALL, STOPPED, PENALIZED, TRUNCATED])
def exact_with_chosen_drafts(make: Factory, scene: Scene) -> None:
    """With drafts that were chosen, not drawn, every text has its probability: such a draft is a q of one."""
    _hold(make, scene, lambda: Drawing(some_q(scene.seed, scene.vocabulary), 2, drawn=False))


@check("verifier", [RAGGED, WAITING])
def exact_with_ragged_rows(make: Factory, scene: Scene) -> None:
    """Rows of other lengths, with drafts of other lengths, are independent, and each has its own distribution."""
    _hold(make, scene, lambda: Drawing(some_q(scene.seed, scene.vocabulary), 1, ragged=True))


@check("verifier", [SMALL, TRUNCATED, replace(TRUNCATED, seed=7)])
def exact_with_zero_mass(make: Factory, scene: Scene) -> None:
    """Where q or p gives many tokens nothing, every text has its probability, and none is not a number."""
    _hold(make, scene, lambda: Drawing(some_q(scene.seed, scene.vocabulary, zeros=True), 2))


@check("verifier", [SMALL, replace(SMALL, seed=1)])
def accepts_what_is_the_targets(make: Factory, scene: Scene) -> None:
    """Where q is the target's own distribution, every drafted token is accepted."""
    target, verifier = scene.target(), drawing_verifier(make)
    q = token_probabilities(scene.table(), 1.0)

    def run(chance: Chance) -> tuple[int, int]:
        pairs = [(0, 0)]
        watched = WatchedVerifier(
            verifier,
            lambda context, draft, logits, verdict: pairs.append((int(draft.lengths[0]), int(verdict.accepted[0]))),
        )
        decoded(scene, target, Drawing(q, 2), watched, chance)
        return next(((most, accepted) for most, accepted in pairs if accepted < most), (0, 0))

    with without_noise():
        outcomes = distribution(run)
    for (most, accepted), weight in outcomes.items():
        if accepted < most:
            raise BrokenRuleError(
                f"{accepted} of {most} tokens accepted, with probability {weight:.6g}", "a cycle of one row"
            )


def _hold(make: Factory, scene: Scene, drafter: Callable[[], Drafter]) -> None:
    with without_noise():
        hold_distribution(scene, scene.target(), drafter, drawing_verifier(make))


@contextmanager
def without_noise() -> Iterator[None]:
    """Report a verifier that asks for noise and does not say so."""
    try:
        yield
    except NoiseError as error:
        value = "it asks for noise, and does not declare `coupled`: a verifier whose choices are noise's says so"
        raise BrokenRuleError(value, "verify") from error


def drawing_verifier(make: Factory) -> Verifier:
    """Return the verifier; raise NotApplicableError if its draws cannot be enumerated."""
    verifier: Verifier = make()
    if verifier.greedy:
        raise NotApplicableError("the verifier decodes greedily")
    if is_coupled(verifier):
        raise NotApplicableError("the verifier is coupled: its noise is compared path by path, in coupled_text")
    return verifier


def _by_key(scene: Scene, truths: list[OracleAnswer]) -> dict[int, tuple[int, ...]]:
    return {key: answer.token_ids for key, answer in zip(scene.keys(), truths, strict=True)}


VERIFIER_TEXTS = (
    greedy_text,
    long_drafts_are_kept_up_to_the_first_mistake,
    coupled_text,
    exact_with_drawn_drafts,
    exact_with_chosen_drafts,
    exact_with_ragged_rows,
    exact_with_zero_mass,
    accepts_what_is_the_targets,
)
