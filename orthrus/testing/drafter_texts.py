"""What comes out with a drafter: the target's own text, sample or distribution."""

from __future__ import annotations

from orthrus.chance import Chance
from orthrus.context import Context
from orthrus.decode import decode
from orthrus.testing.check import Broken, Factory, NotApplicable, check
from orthrus.testing.drafter_made import made
from orthrus.testing.enumeration import EveryOutcome, NoiseAsked, distribution
from orthrus.testing.exactness import hold_distribution
from orthrus.testing.plain_verifiers import PlainConsensus, PlainCoupled
from orthrus.testing.scenes import Scene, ladder
from orthrus.testing.watching import Watched, compare_texts, decoded
from orthrus.types import Draft

CLOSE = 1e-6  # probabilities may be reported in float32
SMALL = Scene(vocabulary=3, order=1, max_new_tokens=3, temperature=1.0)
EXACT = [
    SMALL,
    Scene(seed=1, vocabulary=3, order=1, prompts=((0, 1, 0),), max_new_tokens=4, temperature=0.7, stop_token_ids=(2,)),
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
    compare_texts(found, scene.truths(target))


@check("drafter", ladder(14, temperature=0.8))
def coupled_text(make: Factory, scene: Scene) -> None:
    """Under coupled sampling the text is the sample that the noise decides: same noise, same text."""
    target = scene.target()
    found = decoded(scene, target, made(make, target), PlainCoupled())
    compare_texts(found, scene.truths(target, Chance(scene.seed)))


@check("drafter", EXACT)
def exact_distribution(make: Factory, scene: Scene) -> None:
    """Under speculative sampling every text has the probability that the target gives it, to 1e-12.

    Every outcome of all draws is visited with its weight; a new drafter is made for each.
    """
    from orthrus.testing.plain_verifiers import PlainRejection

    target = scene.target()
    hold_distribution(scene, target, lambda: made(make, target), PlainRejection())


@check("drafter", DRAWN)
def draws_what_it_reports(make: Factory, scene: Scene) -> None:
    """Where a draft has probabilities, each token is drawn from them, given the tokens before it."""
    target = scene.target()
    weights: dict[tuple[int, ...], float] = {}
    reported: dict[tuple[int, ...], list[float]] = {}

    def run(chance: EveryOutcome) -> tuple[tuple[int, ...], tuple[tuple[float, ...], ...]]:
        return _first_draft(scene, make, chance)

    try:
        found = distribution(run)
    except NoiseAsked as error:
        raise NotApplicable(str(error)) from error
    for (tokens, probabilities), weight in found.items():
        for place in range(len(probabilities)):
            reported[tokens[:place]] = list(probabilities[place])
            weights[tokens[: place + 1]] = weights.get(tokens[: place + 1], 0.0) + weight
    _hold_reported(reported, {**weights, (): 1.0}, target.vocabulary_size)


def _first_draft(
    scene: Scene, make: Factory, chance: EveryOutcome
) -> tuple[tuple[int, ...], tuple[tuple[float, ...], ...]]:
    """Return the first draft after a prefill of token 0, and the probabilities that it reports."""
    target, seen = scene.target(), list[tuple[tuple[int, ...], tuple[tuple[float, ...], ...]]]()

    def look(context: Context, draft: Draft) -> None:
        length = int(draft.lengths[0])
        given = () if draft.probabilities is None else draft.probabilities[0, :length].tolist()
        seen.append((tuple(draft.tokens[0, :length].tolist()), tuple(map(tuple, given))))

    context = scene.context(target)
    chance.watch(context)
    steps = decode(target, Watched(made(make, target), look), PlainConsensus(), context, chance)
    next(steps)
    next(steps, None)
    return seen[0] if seen else ((), ())


def _hold_reported(
    reported: dict[tuple[int, ...], list[float]], weights: dict[tuple[int, ...], float], vocabulary: int
) -> None:
    for before, given in reported.items():
        for token in range(vocabulary):
            drawn = weights.get((*before, token), 0.0) / weights[before]
            if abs(drawn - given[token]) > CLOSE:
                value = f"token {token} is drawn with probability {drawn:.6g}, and reported with {given[token]:.6g}"
                raise Broken(value, f"place {len(before)} of the first draft, after {list(before)}")


DRAFTER_TEXTS = (greedy_text, coupled_text, draws_what_it_reports, exact_distribution)
