"""Checks of texts decoded with a drafter: the target's own text, sample or distribution."""

from __future__ import annotations

from collections.abc import Mapping

from orthrus.batch.validation import check_draft
from orthrus.chance import Chance
from orthrus.decode import decode
from orthrus.optional import name_of
from orthrus.reference.verifiers import PlainConsensus, PlainCoupled, PlainRejection
from orthrus.testing.check import BrokenRuleError, Factory, check
from orthrus.testing.checks.contracts import make_drafter
from orthrus.testing.checks.enumeration import EveryOutcome, NoiseError, distribution
from orthrus.testing.checks.exactness import (
    FAR,
    frequencies,
    hold_distribution,
    hold_frequencies,
    hold_independent,
    sampled,
)
from orthrus.testing.doubles.spies import compare_texts, decoded
from orthrus.testing.scenes import Scene, ladder
from orthrus.trees import drafts_trees
from orthrus.values import Draft

Text = tuple[int, ...]
Drawn = tuple[Text, tuple[tuple[float, ...], ...]]  # tokens, and what each was drawn from
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
    """A greedy verifier gives the text of greedy decoding, in every batch and with every limit and stop token."""
    target = scene.target()
    texts = decoded(scene, target, make_drafter(make, target), PlainConsensus())
    compare_texts(texts, scene.truths(scene.target()))


@check("drafter", ladder(14, temperature=0.8))
def coupled_text(make: Factory, scene: Scene) -> None:
    """Under coupled sampling the text is the sample that the noise decides: same noise, same text."""
    target = scene.target()
    texts = decoded(scene, target, make_drafter(make, target), PlainCoupled())
    compare_texts(texts, scene.truths(scene.target(), Chance(scene.seed)))


@check("drafter", EXACT)
def exact_distribution(make: Factory, scene: Scene) -> None:
    """Under speculative sampling every text has the probability that the target gives it, to 1e-12.

    Every outcome of all draws is visited with its weight; a new drafter is made for each. Noise has no outcomes: what
    asks for it is tried with many requests and seeds, and held to frequencies.
    """
    target = scene.target()
    try:
        hold_distribution(scene, target, lambda: make_drafter(make, target), PlainRejection())
    except NoiseError:
        hold_frequencies(scene, target, lambda: make_drafter(make, target), PlainRejection())


@check("drafter", DRAWN)
def draws_what_it_reports(make: Factory, scene: Scene) -> None:
    """Where a draft has probabilities, each token is drawn from them, given the tokens before it."""
    try:
        _hold_reported(distribution(lambda chance: _first_drafts(scene, make, chance)[0]), CLOSE)
    except NoiseError:  # no outcomes to visit: the same by frequencies
        samples = sampled(scene, lambda many, chance: _first_drafts(many, make, chance))
        reported = _hold_reported(frequencies(samples), FAR)
        for length in sorted({len(text) for text in reported}):
            cut = [[_reported(draft, length) for draft in under] for under in samples]
            alike = {text: weight for text, weight in reported.items() if len(text) == length}
            hold_independent(cut, alike, f"the first {length} of the first draft's tokens")


def _hold_reported(drafts: Mapping[Drawn, float], most: float) -> dict[Text, float]:
    """Return with what probability each text is reported; raise BrokenRuleError if one is drawn with another."""
    drawn, reported = dict[Text, float](), dict[Text, float]()
    for (tokens, probabilities), weight in drafts.items():
        for index, given in enumerate(probabilities):
            drawn[tokens[: index + 1]] = drawn.get(tokens[: index + 1], 0.0) + weight
            for token, chance in enumerate(given):
                text = (*tokens[:index], token)
                reported[text] = reported.get(text, 0.0) + weight * chance
    for text, stated in sorted(reported.items(), key=lambda item: len(item[0])):
        if abs(drawn.get(text, 0.0) - stated) > most:
            value = f"{list(text)} is drawn with probability {drawn.get(text, 0.0):.6g}, reported with {stated:.6g}"
            raise BrokenRuleError(value, f"place {len(text) - 1} of the first draft")
    return reported


def _reported(draft: Drawn, length: int) -> Text | None:
    """Return the first tokens of a draft; None if it does not say what each was drawn from."""
    tokens, probabilities = draft
    return tokens[:length] if len(probabilities) >= length else None


def _first_drafts(scene: Scene, make: Factory, chance: Chance) -> list[Drawn]:
    """Return each row's first draft, after a prefill of token 0, and the probabilities that it reports."""
    target = scene.target()
    context, drafter = scene.context(target), make_drafter(make, target)
    if isinstance(chance, EveryOutcome):
        chance.watch(context)
    next(decode(target, drafter, PlainConsensus(), context, chance))  # the prefill; what follows is as the loop does it
    if not context.live:
        return [((), ())] * len(scene.prompts)
    drafter.start(context, range(len(context.rows)))
    draft = drafter.propose(context, chance)
    check_draft(draft, context, name_of(drafter), drafts_trees(drafter))
    return [_drawn(draft, row) for row in range(len(context.rows))]


def _drawn(draft: Draft, row: int) -> Drawn:
    length = int(draft.lengths[row])
    given = () if draft.probabilities is None else draft.probabilities[row, :length].tolist()
    return tuple(draft.tokens[row, :length].tolist()), tuple(map(tuple, given))


DRAFTER_TEXTS = (greedy_text, coupled_text, draws_what_it_reports, exact_distribution)
