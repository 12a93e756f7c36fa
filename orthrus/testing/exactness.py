"""Holds the distribution of what a decoder says against the target's, outcome by outcome."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from orthrus.chance import Chance
from orthrus.interfaces import Drafter, Target, Verifier
from orthrus.testing.check import BrokenRuleError, NotApplicableError
from orthrus.testing.enumeration import Answers, UnrepeatableError, every_decoding, together
from orthrus.testing.oracle import every_answer
from orthrus.testing.scenes import Scene
from orthrus.testing.watching import decoded

EXACT = 1e-12
SEEDS = 1000
FAR = 0.115  # of a frequency: by Hoeffding's inequality an honest one is as far off once in 10 ** 11 times


def hold_distribution(scene: Scene, target: Target, drafter: Callable[[], Drafter], verifier: Verifier) -> None:
    """Raise BrokenRuleError for the answers whose probability is off most, if it is off by more than 1e-12.

    Raises NoiseError if anything draws with noise, which has no outcomes to visit.
    """
    try:
        found = every_decoding(target, drafter, verifier, scene.prompts, scene.stop(), scene.sampling(), scene.batch)
    except UnrepeatableError as error:
        if not drafter().learns:
            raise
        raise NotApplicableError("the drafter learns: what it drafts is not a matter of chance alone") from error
    _compare(found, _wanted(scene), EXACT)


def hold_frequencies(scene: Scene, target: Target, drafter: Callable[[], Drafter], verifier: Verifier) -> None:
    """Raise BrokenRuleError for the answers that come too often or too seldom, decoded with many seeds.

    For what draws with noise. The seeds are fixed, and the bound is so wide that an honest part keeps it.
    """
    found: dict[Answers, float] = {}
    for seed in range(SEEDS):
        answers = tuple(decoded(scene, target, drafter(), verifier, Chance(seed)))
        found[answers] = found.get(answers, 0.0) + 1 / SEEDS
    _compare(found, _wanted(scene), FAR)


def _wanted(scene: Scene) -> dict[Answers, float]:
    """Return how probable every outcome is, by a target that no part has had in its hands."""
    target = scene.target()

    def logits(tokens: list[int]) -> Tensor:
        return target.logits(tokens, 1)[0]

    return together([every_answer(logits, prompt, scene.stop(), sampling=scene.sampling()) for prompt in scene.prompts])


def _compare(found: dict[Answers, float], wanted: dict[Answers, float], most: float) -> None:
    worst = max({*found, *wanted}, key=lambda answers: abs(found.get(answers, 0.0) - wanted.get(answers, 0.0)))
    has, should = found.get(worst, 0.0), wanted.get(worst, 0.0)
    if abs(has - should) > most:
        texts = " and ".join(str(list(answer.token_ids)) for answer in worst)
        raise BrokenRuleError(
            f"{texts} comes with probability {has:.12g}, it should with {should:.12g}", "the whole answer"
        )
