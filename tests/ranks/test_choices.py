"""Decoding by choices: where nobody reads logits, the loop asks for none, and texts are the same."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from orthrus import Chance, Context, Decoder, Draft, Sampling, Step, Stop, Verdict
from orthrus.choices import Choices, speaks_for
from orthrus.reference.cache import PlainCache
from orthrus.reference.table import TableTarget
from orthrus.verification.recording_verifier import RecordingVerifier
from orthrus_verifiers.consensus import Consensus
from orthrus_verifiers.coupled import Coupled

PROMPTS = [[1, 2], [3, 0, 1, 2]]


class SharedTable(TableTarget):
    """A table whose logits would have to be gathered; says what it was asked for."""

    scores_choices = True

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.asked: list[str] = []

    def score(self, context: Context, draft: Draft) -> Tensor:
        self.asked.append("logits")
        return super().score(context, draft)

    def score_choices(self, context: Context, draft: Draft) -> Tensor:
        self.asked.append("choices")
        return super().score(context, draft).argmax(-1)


class Guesses:
    """Drafts two tokens, of which some are right."""

    name = "guesses"
    needs: frozenset[str] = frozenset()
    learns = False

    def start(self, context: Context, rows: object) -> None: ...

    def propose(self, context: Context, chance: Chance) -> Draft:
        tokens = (context.anchors[:, None] + torch.tensor([[1, 3]])) % context.vocabulary_size
        return Draft(tokens, context.room.clamp(max=2))

    def observe(self, step: Step) -> None: ...


class Stricter(Consensus):
    """A verifier that changes what a verdict is, and knows nothing of choices."""

    def verify(self, context: Context, draft: Draft, logits: Tensor, chance: Chance) -> Verdict:
        return super().verify(context, draft, logits, chance)


def decoder(verifier: Any = None, drafter: Any = None) -> Decoder:
    table = torch.randn(4, 4, 4, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    target = SharedTable(table, PlainCache())
    return Decoder(target, drafter or Guesses(), verifier or Consensus(), Stop(12))


def texts(made: Decoder) -> list[tuple[int, ...]]:
    return [result.token_ids for result in made.generate(PROMPTS, batch=2)]


def asked(made: Decoder) -> set[str]:
    texts(made)
    assert isinstance(made.target, SharedTable)
    return set(made.target.asked)


@pytest.mark.parametrize("verifier", [Consensus(), Coupled()])
def test_texts_without_logits_are_those_with_them(verifier: Any) -> None:
    assert asked(decoder(verifier)) == {"choices"}
    assert texts(decoder(verifier)) == texts(decoder(Stricter()))


@pytest.mark.parametrize(
    "sampling", [Sampling(temperature=1.0), Sampling(repetition_penalty=1.3), Sampling(logit_bias={1: 2.0})]
)
def test_settings_that_change_logits_get_them(sampling: Sampling) -> None:
    assert asked(replace(decoder(Coupled()), sampling=sampling)) == {"logits"}


def test_a_verifier_that_has_the_last_word_on_verdicts_gets_logits() -> None:
    assert asked(decoder(Stricter())) == {"logits"}
    assert asked(decoder(RecordingVerifier(Consensus()))) == {"logits"}


def test_a_drafter_that_reads_the_likeliest_tokens_gets_them() -> None:
    class Reads(Guesses):
        likeliest = 2
        seen = 0

        def observe(self, step: Step) -> None:
            if not step.prefilled:
                assert step.likeliest is not None
                self.seen += 1

    reads = Reads()
    assert asked(decoder(drafter=reads)) == {"logits"}
    assert reads.seen


def test_a_target_that_has_its_logits_is_asked_for_them() -> None:
    made = decoder()
    made.target.scores_choices = False  # type: ignore[attr-defined]
    assert Choices.between(made.target, made.drafter, made.verifier) is None
    assert asked(made) == {"logits"}


def test_what_changes_one_method_alone_is_not_asked_by_the_other() -> None:
    assert speaks_for(Consensus(), "verify", "verify_choices")
    assert not speaks_for(Stricter(), "verify", "verify_choices")
    assert not speaks_for(RecordingVerifier(Consensus()), "verify", "verify_choices")
    assert not speaks_for(object(), "verify", "verify_choices")
    own = Consensus()
    vars(own)["verify"] = Stricter().verify
    assert not speaks_for(own, "verify", "verify_choices")
