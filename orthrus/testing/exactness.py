"""Holds the distribution of what a decoder says against the target's, outcome by outcome."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from orthrus.interfaces import Drafter, Target, Verifier
from orthrus.testing.check import BrokenRuleError, NotApplicableError
from orthrus.testing.enumeration import NoiseError, UnrepeatableError, every_decoding, together
from orthrus.testing.oracle import every_answer
from orthrus.testing.scenes import Scene

EXACT = 1e-12


def hold_distribution(scene: Scene, target: Target, drafter: Callable[[], Drafter], verifier: Verifier) -> None:
    """Raise BrokenRuleError for the answers whose probability is off most, if it is off by more than 1e-12.

    Raises NotApplicableError if anything draws with noise, which has no outcomes to visit.
    """

    def logits(tokens: list[int]) -> Tensor:
        return target.logits(tokens, 1)[0]

    try:
        found = every_decoding(target, drafter, verifier, scene.prompts, scene.stop(), scene.sampling(), scene.batch)
    except NoiseError as error:
        raise NotApplicableError(str(error)) from error
    except UnrepeatableError as error:
        if not drafter().learns:
            raise
        raise NotApplicableError("the drafter learns: what it drafts is not a matter of chance alone") from error
    wanted = together(
        [every_answer(logits, prompt, scene.stop(), sampling=scene.sampling()) for prompt in scene.prompts]
    )
    worst = max({*found, *wanted}, key=lambda answers: abs(found.get(answers, 0.0) - wanted.get(answers, 0.0)))
    has, should = found.get(worst, 0.0), wanted.get(worst, 0.0)
    if abs(has - should) > EXACT:
        texts = " and ".join(str(list(answer.token_ids)) for answer in worst)
        raise BrokenRuleError(
            f"{texts} comes with probability {has:.12g}, it should with {should:.12g}", "the whole answer"
        )
