"""What comes out with a drafter: the target's own text, sample or distribution."""

from __future__ import annotations

from orthrus.chance import Chance
from orthrus.context import Context
from orthrus.decode import decode
from orthrus.testing.check import BrokenRuleError, Factory, check
from orthrus.testing.drafter_made import made
from orthrus.testing.enumeration import EveryOutcome, NoiseError, distribution
from orthrus.testing.exactness import FAR, SEEDS, hold_distribution, hold_frequencies
from orthrus.testing.plain_verifiers import PlainConsensus, PlainCoupled, PlainRejection
from orthrus.testing.scenes import Scene, ladder
from orthrus.testing.watching import Watched, compare_texts, decoded
from orthrus.types import Draft

Drawn = tuple[tuple[int, ...], tuple[tuple[float, ...], ...]]  # tokens, and what each was drawn from
CLOSE = 1e-6  # probabilities may be reported in float32
SMALL = Scene(vocabulary=3, order=1, max_new_tokens=3, temperature=1.0)
EXACT = [
    SMALL,
    Scene(seed=1, vocabulary=3, order=1, prompts=((0, 1, 0),), max_new_tokens=3, temperature=0.7, stop_token_ids=(2,)),
    Scene(seed=2, vocabulary=2, order=1, prompts=((0,), (1, 0, 1)), max_new_tokens=2, temperature=1.0),
    Scene(seed=3, vocabulary=3, order=2, prompts=((1, 2, 1, 2),), max_new_tokens=3, temperature=1.0, top_k=2),
    Scene(seed=4, vocabulary=3, order=1, prompts=((0, 0),), max_new_tokens=3, temperature=1.0, repetition_penalty=1.7),
]
DRAWN = [SMALL, Scene(seed=5, vocabulary=3, order=2, prompts=((2, 1, 2),), max_new_tokens=4, temperature=0.8, top_k=2)]


@check("drafter", ladder(21))
def greedy_text(make: Factory, scene: Scene) -> None:
    """Under a greedy verifier the text is what greedy decoding gives, in every batch and with every limit and stop."""
    target = scene.target()
    found = decoded(scene, target, made(make, target), PlainConsensus())
    compare_texts(found, scene.truths(scene.target()))


@check("drafter", ladder(14, temperature=0.8))
def coupled_text(make: Factory, scene: Scene) -> None:
    """Under coupled sampling the text is the sample that the noise decides: same noise, same text."""
    target = scene.target()
    found = decoded(scene, target, made(make, target), PlainCoupled())
    compare_texts(found, scene.truths(scene.target(), Chance(scene.seed)))


@check("drafter", EXACT)
def exact_distribution(make: Factory, scene: Scene) -> None:
    """Under speculative sampling every text has the probability that the target gives it, to 1e-12.

    Every outcome of all draws is visited with its weight; a new drafter is made for each. Noise has no outcomes: what
    asks for it is tried with many seeds, and held to frequencies.
    """
    target = scene.target()
    try:
        hold_distribution(scene, target, lambda: made(make, target), PlainRejection())
    except NoiseError:
        hold_frequencies(scene, target, lambda: made(make, target), PlainRejection())


@check("drafter", DRAWN)
def draws_what_it_reports(make: Factory, scene: Scene) -> None:
    """Where a draft has probabilities, each token is drawn from them, given the tokens before it."""
    try:
        found, most = distribution(lambda chance: _first_draft(scene, make, chance)), CLOSE
    except NoiseError:  # no outcomes to visit: the same by frequencies
        found, most = _frequencies(scene, make), FAR
    drawn: dict[tuple[int, ...], float] = {}
    reported: dict[tuple[int, ...], float] = {}
    for (tokens, probabilities), weight in found.items():
        for place, given in enumerate(probabilities):
            drawn[tokens[: place + 1]] = drawn.get(tokens[: place + 1], 0.0) + weight
            for token, one in enumerate(given):
                text = (*tokens[:place], token)
                reported[text] = reported.get(text, 0.0) + weight * one
    for text, wanted in sorted(reported.items(), key=lambda item: len(item[0])):
        if abs(drawn.get(text, 0.0) - wanted) > most:
            value = f"{list(text)} is drawn with probability {drawn.get(text, 0.0):.6g}, reported with {wanted:.6g}"
            raise BrokenRuleError(value, f"place {len(text) - 1} of the first draft")


def _frequencies(scene: Scene, make: Factory) -> dict[Drawn, float]:
    """Return how often each first draft comes, with many seeds."""
    found: dict[Drawn, float] = {}
    for seed in range(SEEDS):
        draft = _first_draft(scene, make, Chance(seed))
        found[draft] = found.get(draft, 0.0) + 1 / SEEDS
    return found


def _first_draft(scene: Scene, make: Factory, chance: Chance) -> Drawn:
    """Return the first draft after a prefill of token 0, and the probabilities that it reports."""
    target, seen = scene.target(), list[Drawn]()

    def look(context: Context, draft: Draft) -> None:
        length = int(draft.lengths[0])
        given = () if draft.probabilities is None else draft.probabilities[0, :length].tolist()
        seen.append((tuple(draft.tokens[0, :length].tolist()), tuple(map(tuple, given))))

    context = scene.context(target)
    if isinstance(chance, EveryOutcome):
        chance.watch(context)
    steps = decode(target, Watched(made(make, target), look), PlainConsensus(), context, chance)
    next(steps)
    next(steps, None)
    return seen[0] if seen else ((), ())


DRAFTER_TEXTS = (greedy_text, coupled_text, draws_what_it_reports, exact_distribution)
