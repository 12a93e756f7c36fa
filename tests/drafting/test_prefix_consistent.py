"""Drafters that say so are prefix-consistent: a shorter draft begins a longer one, whatever was accepted before."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from support.building import table_target
from support.random_drafters import random_eagle3

from orthrus import Chance, Context, Decoder, Draft, Parts, Stop, Verdict
from orthrus.optional import PrefixConsistent
from orthrus.prediction.watching import TracingVerifier
from orthrus.testing import TableTarget
from orthrus_diffusion.drafter import Diffusion
from orthrus_draft_model.drafter import DraftModel
from orthrus_drafters import candidate_generators
from orthrus_drafters.none import NoDrafter
from orthrus_drafters.options import CandidateGeneratorOptions, SuffixOptions
from orthrus_drafters.prompt_lookup import PromptLookup
from orthrus_drafters.suffix import Suffix
from orthrus_verifiers.consensus import Consensus

Make = Callable[[TableTarget, int], Any]
PROMPTS = [[0, 1, 2, 0, 1], [3, 3], [2]]


def candidates(target: TableTarget, length: int) -> Any:
    options = CandidateGeneratorOptions(arguments={"num_output_tokens": 6, "max_matching_ngram_size": 1}, length=length)
    return candidate_generators.make(options, Parts(target=target))


def eagle3(target: TableTarget, length: int) -> Any:
    drafter = random_eagle3(target)
    drafter.length = length
    return drafter


DRAFTERS: dict[str, Make] = {
    "none": lambda target, length: NoDrafter(),
    "prompt_lookup": lambda target, length: PromptLookup(1, 1, length),
    "suffix": lambda target, length: Suffix(SuffixOptions(length=length, min_match=1)),
    "transformers": candidates,
    "draft_model": lambda target, length: DraftModel(target, table_target(seed=5), length),
    "eagle3": eagle3,
}


class Listening(TracingVerifier):
    """Note the drafts themselves, by request and place."""

    def __init__(self, every_place: bool) -> None:
        super().__init__(Consensus(), every_place)
        self.drafts: dict[tuple[int, int], list[int]] = {}

    def verify(self, context: Context, draft: Draft, logits: Any, chance: Chance) -> Verdict:
        for row, tokens, length in zip(context.rows, draft.tokens.tolist(), draft.lengths.tolist(), strict=True):
            if row.output:
                self.drafts[row.request, len(row.output)] = tokens[:length]
        return super().verify(context, draft, logits, chance)


def heard(make: Make, length: int, every_place: bool) -> tuple[dict[tuple[int, int], list[int]], list[list[int]]]:
    """Return the drafts, and the answers."""
    target = table_target(seed=1)
    verifier = Listening(every_place)
    decoder = Decoder.of(target, make(target, length), Consensus(), Stop(20))
    context, steps = replace(decoder, verifier=verifier).steps(PROMPTS, 1)
    assert [step for step in steps if step.committed]
    return verifier.drafts, [row.output for row in context.requests]


@pytest.mark.parametrize("name", DRAFTERS)
def test_a_shorter_draft_begins_a_longer_one(name: str) -> None:
    drafter = DRAFTERS[name](table_target(seed=1), 6)
    assert isinstance(drafter, PrefixConsistent) and drafter.prefix_consistent
    longest, answers = heard(DRAFTERS[name], 6, every_place=True)
    assert set(longest) == {(request, place) for request in range(3) for place in range(1, 20)}
    assert name == "none" or any(map(len, longest.values()))
    for length in (1, 2, 6):
        drafts, same = heard(DRAFTERS[name], length, every_place=False)
        assert same == answers
        assert drafts == {where: longest[where][:length] for where in drafts}


def test_those_that_choose_how_much_to_draft_do_not_say_so() -> None:
    target: Any = table_target()
    auto: Any = object()
    assert not PromptLookup(1, 1, 6, auto=auto).prefix_consistent
    assert not Suffix(SuffixOptions(length=6), auto=auto).prefix_consistent
    assert not DraftModel(target, table_target(5), 6, auto=True).prefix_consistent
    assert not isinstance(Diffusion(target, 4, 0), PrefixConsistent)  # its masks see one another
    written = candidate_generators.GeneratorFactory(CandidateGeneratorOptions(), target)
    written.place = "mine:Generator"
    assert not candidate_generators.CandidateGeneratorDrafter(written, 6).prefix_consistent


def test_a_drafter_that_is_not_is_noticed() -> None:
    class Fickle(PromptLookup):
        def propose(self, context: Context, chance: Chance) -> Draft:
            draft = super().propose(context, chance)
            return Draft((draft.tokens + draft.tokens.shape[1]) % 4, draft.lengths)

    def make(target: TableTarget, length: int) -> Any:
        return Fickle(1, 1, length)

    longest, _ = heard(make, 6, every_place=True)
    drafts, _ = heard(make, 2, every_place=False)
    assert drafts != {where: longest[where][:2] for where in drafts}
