"""Holds the distribution of what a decoder says against the target's, outcome by outcome."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from torch import Tensor

from orthrus.chance import Chance
from orthrus.interfaces import Drafter, Target, Verifier
from orthrus.reference.oracle import every_answer
from orthrus.testing.check import BrokenRuleError, NotApplicableError
from orthrus.testing.checks.enumeration import Answers, UnrepeatableError, every_decoding, together
from orthrus.testing.doubles.spies import decoded
from orthrus.testing.scenes import Scene

T = TypeVar("T", bound=Hashable)
EXACT = 1e-12
SEEDS, REQUESTS = 20, 50  # of what draws with noise: so many requests are decoded together under each seed
FAR = 0.115  # of a frequency: by Hoeffding's inequality an honest one is as far off once in 10 ** 11 times
OFTEN = FAR * 2**0.5  # the same for pairs that agree: half as many of them are independent as there are samples


def hold_distribution(
    scene: Scene, target: Target, drafter: Callable[[], Drafter], verifier: Verifier, truth: Target | None = None
) -> None:
    """Raise BrokenRuleError for the answers whose probability is off most, if it is off by more than 1e-12.

    truth: a target that no part has had in its hands, where the scene's own is another one.
    Raises NoiseError if anything draws with noise, which has no outcomes to visit.
    """
    try:
        distribution = every_decoding(
            target, drafter, verifier, scene.prompts, scene.stop(), scene.sampling(), scene.batch
        )
    except UnrepeatableError as error:
        if not drafter().learns:
            raise
        raise NotApplicableError("the drafter learns: what it drafts is not a matter of chance alone") from error
    _compare(distribution, _expected(scene, truth), EXACT)


def hold_frequencies(scene: Scene, target: Target, drafter: Callable[[], Drafter], verifier: Verifier) -> None:
    """Raise BrokenRuleError for answers that come too often or too seldom, of many requests under many seeds.

    For what draws with noise. The seeds are fixed, and the bounds are so wide that an honest part keeps them.
    """
    rows = len(scene.prompts)

    def answers(many: Scene, chance: Chance) -> list[Answers]:
        row_texts = decoded(many, target, drafter(), verifier, chance)
        return [tuple(row_texts[first : first + rows]) for first in range(0, len(row_texts), rows)]

    samples, expected = sampled(scene, answers), _expected(scene)
    _compare(frequencies(samples), expected, FAR)
    hold_independent(samples, expected, "the whole answer")


def sampled(scene: Scene, run: Callable[[Scene, Chance], list[T]]) -> list[list[T]]:
    """Return what `run` makes of many requests for a scene, decoded together: one list for each of many seeds.

    Together is quick. That it counts requests and not only seeds is what `hold_independent` is for.
    """
    many = replace(scene, prompts=scene.prompts * REQUESTS)  # each has noise of its own: it is keyed by its number
    return [run(many, Chance(seed)) for seed in range(SEEDS)]


def frequencies(samples: Sequence[Sequence[T]]) -> dict[T, float]:
    """Return how often each sample comes."""
    every = [answer for under in samples for answer in under]
    return {answer: count / len(every) for answer, count in Counter(every).items()}


def hold_independent(samples: Sequence[Sequence[T | None]], expected: Mapping[T, float], location: str) -> None:
    """Raise BrokenRuleError if two seeds, or two requests under one, agree more often than two draws from `expected`.

    samples: by seed, then by request; None agrees with nothing. One sample that is counted again and again has honest
    frequencies only by luck: this tells noise that does not depend on the seed, or not on the request.
    """
    by_chance = sum(probability**2 for probability in expected.values())
    for two, groups in (("seeds", [*zip(*samples, strict=True)]), ("requests", samples)):
        share = sum(map(_agreeing, groups)) / len(groups)
        if share > by_chance + OFTEN:
            value = f"two {two} agree with probability {share:.6g}, two draws of their own would with {by_chance:.6g}"
            raise BrokenRuleError(value, location)


def _agreeing(group: Sequence[T | None]) -> float:
    """Return which share of the pairs in a group agree."""
    counts = Counter(answer for answer in group if answer is not None)
    return sum(count * (count - 1) for count in counts.values()) / (len(group) * (len(group) - 1))


def _expected(scene: Scene, truth: Target | None = None) -> dict[Answers, float]:
    """Return how probable every outcome is, by a target that no part has had in its hands."""
    target = truth or scene.target()

    def logits(tokens: list[int]) -> Tensor:
        return target.logits(tokens, 1)[0]

    return together([every_answer(logits, prompt, scene.stop(), sampling=scene.sampling()) for prompt in scene.prompts])


def _compare(actual: dict[Answers, float], expected: dict[Answers, float], most: float) -> None:
    worst = max({*actual, *expected}, key=lambda answers: abs(actual.get(answers, 0.0) - expected.get(answers, 0.0)))
    has, should = actual.get(worst, 0.0), expected.get(worst, 0.0)
    if abs(has - should) > most:
        texts = " and ".join(str(list(answer.token_ids)) for answer in worst)
        raise BrokenRuleError(
            f"{texts} comes with probability {has:.12g}, it should with {should:.12g}", "the whole answer"
        )
