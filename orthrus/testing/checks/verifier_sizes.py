"""Checks of a verifier where small tables show nothing: many rows, large ids, ties, coarse noise, settings."""

from __future__ import annotations

import torch
from torch import Tensor

from orthrus.batch.context import Context
from orthrus.chance import Chance
from orthrus.errors import InputError
from orthrus.interfaces import Verifier
from orthrus.optional import is_coupled
from orthrus.reference.cache import PlainCache
from orthrus.reference.logits import NEVER
from orthrus.reference.table import TableTarget
from orthrus.testing.check import BrokenRuleError, Factory, NotApplicableError, check
from orthrus.testing.checks.exactness import hold_distribution
from orthrus.testing.checks.verifier_form import asking, at_place, hold_alike, verdict_of
from orthrus.testing.checks.verifier_texts import drawing_verifier, without_noise
from orthrus.testing.doubles.drafters import Drawing, Scripted
from orthrus.testing.doubles.spies import WatchedVerifier, decoded
from orthrus.testing.doubles.verifiers import Dictated
from orthrus.testing.scenes import Scene
from orthrus.values import Draft, Verdict

GROUP = 13  # rows that are asked about together for comparison: fewer than any group that a kernel works in
PROMPTS = tuple((index % 4, index // 4 % 3, index % 3)[: 1 + index % 3] for index in range(130))
MANY = [
    Scene(seed=seed, prompts=PROMPTS, max_new_tokens=7, temperature=temperature)
    for seed, temperature in ((1, 0.0), (2, 0.8))
]
LARGE = Scene(seed=3, prompts=((0, 1, 2), (2049,)), max_new_tokens=30, vocabulary=4200, order=1, states=512)
TIED = [Scene(seed=seed, prompts=((0, 1), (2,), (1, 0, 3)), max_new_tokens=20, gap=0.0) for seed in range(6)]
MIXED = [
    Scene(seed=seed, prompts=((0, 1, 2), (2, 1), (3,), (1, 1, 0)), max_new_tokens=12, temperatures=temperatures)
    for seed, temperatures in ((1, (0.0, 1.5, 0.4, 1.0)), (2, (1.5, 0.0, 0.0, 0.4)), (3, (0.2, 2.0, 2.0, 0.2)))
]
# Of a large vocabulary only these tokens have a probability, so that all texts can be visited.
LARGE_IDS = (0, 2049, 4098)
FEW = Scene(seed=6, prompts=((2049,),), max_new_tokens=3, vocabulary=4200, order=1, states=8, temperature=1.0)
HINT = 1e-4  # what makes the choice, once noise is added to its own negative: far less than halves can hold


@check("verifier", MANY)
def many_rows_are_independent(make: Factory, scene: Scene) -> None:
    """Of 130 rows each has the verdict that it has among 13, though kernels work in groups of 16, 32 or 128 rows."""

    def look(verifier: Verifier, context: Context, draft: Draft, logits: Tensor) -> None:
        rows = range(len(context.rows))  # those that have ended may have left
        hold_alike(verifier, context, draft, logits, [rows[first : first + GROUP] for first in rows[::GROUP]])

    asking(make, scene, look)


@check("verifier", [LARGE])
def token_ids_are_compared_in_full(make: Factory, scene: Scene) -> None:
    """A draft whose id is next to the choice's is refused, where the vocabulary has more ids than a half can tell."""
    verifier: Verifier = make()

    def look(context: Context, draft: Draft, logits: Tensor, verdict: Verdict) -> None:
        if not draft.tokens.shape[1]:
            return
        choices = logits[:, :1].argmax(-1)  # [B, 1]
        for step in (1, -1):
            near = (choices + step) % context.vocabulary_size
            close = Draft(near, torch.ones_like(draft.lengths))
            for row, (accepted, token) in enumerate(verdict_of(verifier, context, close, logits[:, :2])):
                chosen = int(choices[row])
                if accepted or token != chosen:
                    value = f"{accepted} accepted of a draft of {int(near[row])}, then {token}; the choice is {chosen}"
                    raise BrokenRuleError(value, at_place(context, row))

    target = scene.target()
    texts = {key: tuple(range(0, 4200, 97)) for key in tuple(scene.keys())}
    drafter = Scripted(texts, scene.vocabulary, scene.seed, 1.0, (1,))
    decoded(scene, target, drafter, WatchedVerifier(Dictated(scene.seed), look))


@check("verifier", TIED)
def ties_go_to_the_first(make: Factory, scene: Scene) -> None:
    """Of tokens with equal logits the first is the choice; a draft of another one is refused."""
    verifier: Verifier = make()

    def look(context: Context, draft: Draft, logits: Tensor, verdict: Verdict) -> None:
        largest = logits.amax(-1, keepdim=True) == logits
        choices, last = logits.argmax(-1), logits.shape[-1] - 1 - largest.flip(-1).long().argmax(-1)
        for name, drafted in (("the first", choices), ("the last", last)):
            whole = Draft(drafted[:, :-1], draft.lengths)
            for row, (accepted, token) in enumerate(verdict_of(verifier, context, whole, logits)):
                right = (choices[row, :-1] == drafted[row, :-1]).long().cumprod(0)
                wanted = min(int(right.sum()), int(draft.lengths[row]))
                chosen = int(choices[row, wanted])
                if (accepted, token) != (wanted, chosen):
                    value = f"{accepted} tokens and {token}, wanted {wanted} and {chosen}"
                    raise BrokenRuleError(value, f"{at_place(context, row)}, drafts of {name} of equal logits")

    decoded(scene, scene.target(), _scripted(scene), WatchedVerifier(Dictated(scene.seed), look))


@check("verifier", [Scene(seed=1, prompts=((0, 1), (2,)), max_new_tokens=12, vocabulary=300, order=1, temperature=1.0)])
def noise_is_added_in_full(make: Factory, scene: Scene) -> None:
    """Coupled noise is added in float32 or finer: where it leaves tokens 0.0001 apart, the larger one is chosen."""
    verifier: Verifier = make()
    if not is_coupled(verifier):
        raise NotApplicableError("the verifier does not declare `coupled`")

    def look(context: Context, draft: Draft, logits: Tensor, verdict: Verdict) -> None:
        chance, places = Chance(scene.seed), context.positions(logits.shape[1])
        wanted = (places * 7 + context.keys[:, None]) % logits.shape[-1]  # [B, n + 1]
        against = -chance.gumbel(context.keys, places, logits.shape[-1]).double()
        against.scatter_add_(-1, wanted[..., None], torch.full((*wanted.shape, 1), HINT, dtype=against.dtype))
        whole = Draft(wanted[:, :-1], draft.lengths)
        verdicts = verifier.verify(context, whole, against.to(logits.dtype), chance)
        expected = wanted.gather(1, draft.lengths[:, None])[:, 0]
        for row, (accepted, token) in enumerate(
            zip(verdicts.accepted.tolist(), verdicts.next_tokens.tolist(), strict=True)
        ):
            if (accepted, token) != (int(draft.lengths[row]), int(expected[row])):
                value = f"{accepted} accepted and {token}, wanted {int(draft.lengths[row])} and {int(expected[row])}"
                raise BrokenRuleError(value, at_place(context, row))

    decoded(scene, scene.target(), _scripted(scene), WatchedVerifier(Dictated(scene.seed), look))


@check("verifier", MIXED)
def rows_have_settings_of_their_own(make: Factory, scene: Scene) -> None:
    """Among rows of other temperatures each has the verdict that it has alone, and at 0 that is the target's choice."""

    def look(verifier: Verifier, context: Context, draft: Draft, logits: Tensor) -> None:
        verdicts = hold_alike(verifier, context, draft, logits, [[row] for row in range(len(context.rows))])
        for row, (accepted, token) in enumerate(verdicts):
            greedy = context.rows[row].sampling.temperature == 0
            if greedy and token != int(logits[row, accepted].argmax()):
                value = f"token {token}; the choice is {int(logits[row, accepted].argmax())}"
                raise BrokenRuleError(value, f"{at_place(context, row)}, which is at temperature 0")

    if make().greedy:
        raise NotApplicableError("the verifier decodes greedily")
    try:
        asking(make, scene, look)
    except InputError as error:  # of `context.sampling`, which rows that differ do not have
        raise NotApplicableError(f"it works where all rows have the same settings: {error}") from error


@check("verifier", [FEW])
def exact_with_a_large_vocabulary(make: Factory, scene: Scene) -> None:
    """In a vocabulary of 4,200 ids every text has the probability that the target gives it, to 1e-12."""
    table = torch.full((8, scene.vocabulary), NEVER, dtype=torch.float64)
    q = torch.zeros(scene.vocabulary, scene.vocabulary, dtype=torch.float64)
    generator = torch.Generator().manual_seed(scene.seed)
    for token in LARGE_IDS:
        table[token % 8, list(LARGE_IDS)] = torch.randn(3, generator=generator, dtype=torch.float64)
        q[token, list(LARGE_IDS)] = torch.rand(3, generator=generator, dtype=torch.float64).softmax(0)

    def target() -> TableTarget:
        return TableTarget(table, PlainCache())

    with without_noise():
        hold_distribution(scene, target(), lambda: Drawing(q, 1), drawing_verifier(make), target())


def _scripted(scene: Scene) -> Scripted:
    texts = {
        key: tuple((index * 7 + offset) % scene.vocabulary for index in range(40))
        for offset, key in enumerate(scene.keys())
    }
    return Scripted(texts, scene.vocabulary, scene.seed)


VERIFIER_SIZES = (
    many_rows_are_independent,
    token_ids_are_compared_in_full,
    ties_go_to_the_first,
    noise_is_added_in_full,
    rows_have_settings_of_their_own,
    exact_with_a_large_vocabulary,
)
