"""Checks of trees of drafts: what verifiers keep of them, and along which paths targets score and keep them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from orthrus.batch.context import Context
from orthrus.chance import Chance
from orthrus.interfaces import Target, Verifier
from orthrus.optional import is_coupled
from orthrus.reference.cache import PlainCache
from orthrus.reference.oracle import OracleAnswer
from orthrus.reference.verifiers import PlainConsensus, PlainCoupled, followed
from orthrus.testing.check import BrokenRuleError, Factory, NotApplicableError, check
from orthrus.testing.checks.exactness import hold_distribution
from orthrus.testing.checks.target_passes import hold_close, spread_over, tokens_of
from orthrus.testing.checks.verifier_form import at_place
from orthrus.testing.checks.verifier_texts import drawing_verifier, without_noise
from orthrus.testing.doubles.drafters import some_q
from orthrus.testing.doubles.spies import WatchedVerifier, compare_texts, decoded
from orthrus.testing.doubles.trees import DrawingTrees, ScriptedTrees
from orthrus.testing.doubles.verifiers import Dictated
from orthrus.testing.scenes import Scene, ladder
from orthrus.trees import ScoresTrees, verifies_trees
from orthrus.values import Draft, Verdict

DRAWN = Scene(vocabulary=3, order=1, max_new_tokens=3, temperature=1.0)
STOPPED = replace(DRAWN, seed=1, temperature=0.7, stop_token_ids=(2,), prompts=((0, 1),))
CHOSEN = [
    DRAWN,
    replace(STOPPED, max_new_tokens=4),
    replace(DRAWN, seed=4, repetition_penalty=1.7),
]
FORK, BUSH = (-1, -1), (-1, -1, 0)
SCORED = [
    Scene(prompts=((0, 1, 2),), max_new_tokens=6),
    Scene(seed=1, prompts=((0,), (1, 2, 3, 0, 1), (2, 2, 1)), max_new_tokens=12),
    Scene(seed=2, prompts=((0, 3, 1, 2), (1,)), max_new_tokens=30),
]


def _verifier(make: Factory) -> Verifier:
    verifier: Verifier = make()
    if not verifies_trees(verifier):
        raise NotApplicableError("the verifier does not declare `verifies_trees`")
    return verifier


@check("verifier", ladder(12))
def greedy_text_over_trees(make: Factory, scene: Scene) -> None:
    """At temperature 0 the text is greedy decoding's, whatever branches a tree has, and siblings alike."""
    verifier, target = _verifier(make), scene.target()
    truths = scene.truths(target)
    compare_texts(decoded(scene, target, _scripted(scene, truths), verifier), truths)


@check("verifier", ladder(10))
def keeps_the_longest_path(make: Factory, scene: Scene) -> None:
    """At temperature 0 the longest path of the target's choices is kept: its length, its last token, and the next."""
    verifier = _verifier(make)

    def look(context: Context, draft: Draft, logits: Tensor, verdict: Verdict) -> None:
        if draft.parents is None:
            return
        verdict = verifier.verify(context, draft, logits, Chance(7))
        if verdict.last is None:
            raise BrokenRuleError("a verdict without `last`", at_place(context, 0))
        given = (part.tolist() for part in (verdict.accepted, verdict.last, verdict.next_tokens))
        for row, (accepted, last, token) in enumerate(zip(*given, strict=True)):
            length, choices = int(draft.lengths[row]), logits[row].argmax(-1).tolist()
            path = followed(choices, draft.tokens[row, :length].tolist(), draft.parents[row, :length].tolist())
            end = path[-1] if path else -1
            wanted = len(path), end, choices[end + 1]
            if (accepted, last, token) != wanted:
                value = f"{(accepted, last, token)} instead of {wanted} (accepted, last, next token)"
                raise BrokenRuleError(value, at_place(context, row))

    decoded(
        scene, scene.target(), _scripted(scene, scene.truths(scene.target())), WatchedVerifier(PlainConsensus(), look)
    )


@check("verifier", ladder(12, temperature=0.8))
def coupled_text_over_trees(make: Factory, scene: Scene) -> None:
    """A coupled verifier says what the noise of seed, request and position decides, whatever branches a tree has."""
    verifier = _verifier(make)
    if not is_coupled(verifier):
        raise NotApplicableError("the verifier does not declare `coupled`")
    truths = scene.truths(scene.target(), Chance(scene.seed))
    compare_texts(decoded(scene, scene.target(), _scripted(scene, truths), verifier), truths)


@check("verifier", [replace(DRAWN, vocabulary=2, max_new_tokens=4), STOPPED])
def exact_with_drawn_trees(make: Factory, scene: Scene) -> None:
    """With trees drawn from any q, siblings alike or apart, every text has the target's probability, to 1e-12."""
    q = some_q(scene.seed, scene.vocabulary, zeros=scene.seed == 1)
    apart = scene.seed == 1
    _hold(make, scene, lambda: DrawingTrees(q, FORK if apart else BUSH, replaced=not apart))


@check("verifier", CHOSEN)
def exact_with_chosen_trees(make: Factory, scene: Scene) -> None:
    """With trees that were chosen, not drawn, every text has the probability that the target gives it."""
    q = some_q(scene.seed, scene.vocabulary)
    _hold(make, scene, lambda: DrawingTrees(q, (*BUSH, 1, 0), chosen=True))


def _hold(make: Factory, scene: Scene, drafter: Callable[[], DrawingTrees]) -> None:
    _verifier(make)
    with without_noise():
        hold_distribution(scene, scene.target(), drafter, drawing_verifier(make))


def _scripted(scene: Scene, truths: list[OracleAnswer]) -> ScriptedTrees:
    texts = {key: answer.token_ids for key, answer in zip(scene.keys(), truths, strict=True)}
    return ScriptedTrees(texts, scene.vocabulary, scene.seed)


@check("target", SCORED)
def trees_are_scored_along_their_paths(make: Factory, scene: Scene) -> None:
    """Each place of a tree gets the logits of the text that leads to it, however much of earlier trees was kept."""
    target = _scoring(make)
    scene = spread_over(scene, target)
    texts = dict.fromkeys(scene.keys(), tokens_of(range(80), target.vocabulary_size))
    drafter = ScriptedTrees(texts, target.vocabulary_size, scene.seed, sizes=(0, 1, 4, 9))

    def compare(context: Context, draft: Draft, logits: Tensor, verdict: Verdict) -> None:
        for row, state in enumerate(context.rows):
            if state.finish_reason is not None or not state.output:
                continue
            text, length = [*state.prompt, *state.output], int(draft.lengths[row])
            parents = [] if draft.parents is None else draft.parents[row, :length].tolist()
            paths: dict[int, list[int]] = {-1: []}
            for index, token in enumerate(draft.tokens[row, :length].tolist()):
                paths[index] = [*paths[parents[index]], token]
            for index, path in paths.items():
                own = target.logits([*text, *path], 1)[0]
                where = f"row {row} in cycle {context.cycle + 1}, token {index} of a tree with parents {parents}"
                hold_close(target, logits[row, index + 1], own, where)

    decoded(scene, target, drafter, WatchedVerifier(Dictated(scene.seed), compare))


@check("target", SCORED)
def texts_over_trees(make: Factory, scene: Scene) -> None:
    """Decoding with trees gives the text that `logits` alone gives, greedily and under coupled noise."""
    target: Any = _scoring(make)
    scene = spread_over(scene, target)
    if target.logits(scene.prompts[0], 1).dtype not in (torch.float32, torch.float64):
        raise NotApplicableError("in halves near-ties flip; trees_are_scored_along_their_paths says how close it is")
    for verifier, temperature in ((PlainConsensus(), 0.0), (PlainCoupled(), 0.8)):
        drawn = replace(scene, temperature=temperature)
        truths = drawn.truths(target, Chance(scene.seed) if temperature else None)
        texts = {key: answer.token_ids for key, answer in zip(drawn.keys(), truths, strict=True)}
        drafter = ScriptedTrees(texts, target.vocabulary_size, scene.seed)
        compare_texts(decoded(drawn, target, drafter, verifier), truths)


def _scoring(make: Factory) -> Target:
    target: Target = make(PlainCache())
    if not isinstance(target, ScoresTrees):
        raise NotApplicableError("the target scores no trees")
    if obstacle := target.tree_obstacle():
        raise NotApplicableError(f"its {obstacle.kind} '{obstacle.part}' {obstacle.reason}")
    return target


VERIFIER_TREES = (
    greedy_text_over_trees,
    keeps_the_longest_path,
    coupled_text_over_trees,
    exact_with_drawn_trees,
    exact_with_chosen_trees,
)
TARGET_TREES = (trees_are_scored_along_their_paths, texts_over_trees)
