"""Candidate generators of transformers as drafters: its own drafts, the target's text, and what is refused and why."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from support.building import assert_lossless, decode_with, table_target, target_oracle, transformers_target
from torch import Tensor
from transformers.generation.candidate_generator import CandidateGenerator, PromptLookupCandidateGenerator

from orthrus import BuildError, DraftError, Parts, Stop
from orthrus.testing import drafter_checks
from orthrus.testing.profiles import fewer
from orthrus.testing.strategies import batches, stops, tables
from orthrus_drafters.candidate_generators import CandidateGeneratorDrafter, make
from orthrus_drafters.options import CandidateGeneratorOptions

LOOKUP = CandidateGeneratorOptions(arguments={"num_output_tokens": 4})
READS = {"drafting_waits_seldom": "generators of transformers read tensors, of the host here, which costs no wait"}
QUICK = ("draft_has_its_form", "draft_fits_the_room", "declares_itself", "inputs_are_left_alone", *READS)


class Again(CandidateGenerator):
    """Propose the last token again, so many times."""

    def __init__(self, times: int, vocab_size: int, eos_token_id: Tensor) -> None:
        self.times = times
        assert vocab_size == 4
        assert eos_token_id.dtype == torch.int64

    def get_candidates(self, input_ids: Tensor, **kwargs: Any) -> tuple[Tensor, Tensor | None]:
        return torch.cat([input_ids, input_ids[:, -1:].repeat(1, self.times)], dim=1), None


class Returning(CandidateGenerator):
    """Return what its class says."""

    value: Any = None

    def get_candidates(self, input_ids: Tensor, **kwargs: Any) -> Any:
        return self.value(input_ids)


class Several(Returning):
    value = staticmethod(lambda ids: (ids.repeat(2, 1), None))


class Shorter(Returning):
    value = staticmethod(lambda ids: (ids[:, 1:], None))


class Changed(Returning):
    value = staticmethod(lambda ids: (ids + 1, None))


class Nothing(Returning):
    value = staticmethod(lambda ids: None)


class Adapting(CandidateGenerator):
    def update_candidate_strategy(self, input_ids: Any, scores: Any, num_matches: int) -> None:
        self.matches = num_matches


class Failing(CandidateGenerator):
    def __init__(self) -> None:
        raise ValueError("not today")


def own(name: str, **arguments: Any) -> CandidateGeneratorOptions:
    return CandidateGeneratorOptions(f"{__name__}:{name}", arguments)


def drafter_of(options: CandidateGeneratorOptions, target: Any = None) -> CandidateGeneratorDrafter:
    return make(options, Parts(target=target or table_target()))


@pytest.mark.parametrize(
    "check",
    [
        pytest.param(check, marks=[pytest.mark.thorough] if check.name not in QUICK else [])
        for check in drafter_checks(expect=READS)
    ],
    ids=str,
)
def test_conformance(check: Any) -> None:
    check(lambda target: drafter_of(LOOKUP, target))


@fewer(12)
@given(target=tables(4), prompts=batches(4, longest=6, rows=5), stop=stops(4, 12, tokens=1, strings=1))
def test_the_text_is_the_targets(target: Any, prompts: list[list[int]], stop: Stop) -> None:
    answers = [target_oracle(target)(prompt, stop) for prompt in prompts]
    for options in (LOOKUP, own("Again", times=3)):
        for batch in (1, 3):
            assert_lossless(decode_with(target, drafter_of(options, target), prompts, stop, batch=batch), answers)


def test_drafts_are_those_of_transformers() -> None:
    target, stop = transformers_target("llama"), Stop(40)
    [result] = decode_with(target, drafter_of(LOOKUP, target), [[5, 7, 5, 7, 5]], stop)
    generator, tokens, accepted = PromptLookupCandidateGenerator(num_output_tokens=4, max_length=45), [], []
    tokens, answer = [5, 7, 5, 7, 5, result.token_ids[0]], list(result.token_ids)
    while len(tokens) < 45:
        candidate = generator.get_candidates(torch.tensor([tokens]))[0][0, len(tokens) :].tolist()
        rest = answer[len(tokens) - 5 :]
        equal = [token == wanted for token, wanted in zip(candidate, rest, strict=False)]
        accepted.append([*equal, False].index(False))
        tokens += rest[: accepted[-1] + 1]
    assert list(result.measures.accepted_per_cycle) == accepted
    assert sum(accepted) > 0


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (own("Missing"), "cannot be imported: AttributeError"),
        (CandidateGeneratorOptions("no_such_module:Class"), "cannot be imported: ModuleNotFoundError"),
        (own("READS"), "is no class with a method `get_candidates`"),
        (own("Adapting"), "adapts itself in `update_candidate_strategy`"),
        (own("Failing"), "cannot be made: ValueError: not today"),
        (own("Again"), "needs times; what is a model"),
        (own("Again", times=1, tines=2), "takes no 'tines', but times, vocab_size, eos_token_id"),
        (CandidateGeneratorOptions(arguments={"num_output_tokens": 0}), "cannot be made: ValueError: Invalid"),
        (
            CandidateGeneratorOptions("transformers.generation.candidate_generator:AssistedCandidateGenerator"),
            "adapts itself in `update_candidate_strategy`",
        ),
        (
            CandidateGeneratorOptions("transformers.generation.candidate_generator:MTPCandidateGenerator"),
            "reads the hidden states of the model",
        ),
    ],
)
def test_what_cannot_be_honoured_is_refused(options: CandidateGeneratorOptions, sentence: str) -> None:
    with pytest.raises(BuildError) as refused:
        drafter_of(options)
    assert str(refused.value).startswith(("drafter.generator: ", "drafter.arguments: "))
    assert sentence in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", ["prompt_lokup", "assisted", "module:", "a b:C", ":Class"])
def test_a_generator_that_is_neither_known_nor_a_class_is_a_problem(name: str) -> None:
    [(key, sentence)] = CandidateGeneratorOptions(name).problems()
    assert key == "generator"
    assert "known: prompt_lookup; a class is written module:Class" in sentence


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("Several", "returned 2 candidates; a draft is one chain"),
        ("Shorter", "returned a candidate that does not begin with the tokens it was handed"),
        ("Changed", "returned a candidate that does not begin with the tokens it was handed"),
        ("Nothing", "returned 'NoneType', not token ids"),
    ],
)
def test_a_candidate_that_is_none_is_told(name: str, sentence: str) -> None:
    target = table_target()
    with pytest.raises(DraftError, match=sentence):
        decode_with(target, drafter_of(own(name), target), [[1, 2]], Stop(4))
