"""The witness of a run: it changes nothing, notes every token, and is not to be fooled by what it watches."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.building import table_target
from support.certified import COUPLED, Given, Lenient, RoundedTable, certify, config_of, random_table
from support.drafters import ScriptedDrafter
from torch import Tensor

from orthrus import Chance, Context, Decoder, Draft, InputError, Sampling, Stop, Verdict
from orthrus.sampling import append_bonus
from orthrus.testing.profiles import fewer
from orthrus.verification.recording_verifier import RecordingVerifier, of_token
from orthrus_drafters.none import NoDrafter
from orthrus_verifiers.coupled import Coupled


@fewer(3)
@given(
    prompts=st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=6), min_size=1, max_size=6),
    limit=st.integers(0, 9),
    temperature=st.sampled_from([0.0, 0.7]),
    batch=st.integers(1, 4),
    seed=st.integers(0, 99),
)
def test_every_token_is_seen_once_it_is_committed_and_none_is_changed(
    prompts: list[list[int]], limit: int, temperature: float, batch: int, seed: int
) -> None:
    target, stop = table_target(seed), Stop(limit, token_ids=frozenset({3}))
    plain = Decoder.of(target, NoDrafter(), Coupled(), stop, seed, Sampling(temperature))
    answers = plain.generate(prompts, batch=1)
    drafter = ScriptedDrafter([answer.token_ids for answer in answers], 4, 0.7, [0, 1, 4], seed)
    witness = RecordingVerifier(Coupled())
    results = dataclasses.replace(plain, drafter=drafter, verifier=witness).generate(prompts, batch=batch)
    assert [result.token_ids for result in results] == [result.token_ids for result in answers]
    for result, seen in zip(results, witness.seen(results), strict=True):
        for index, token in enumerate(result.token_ids):
            assert seen[index].token == seen[index].argmax == token
            assert seen[index].gap == 0.0
            if temperature == 0:
                logits = target.logits([*result.prompt_token_ids, *result.token_ids[:index]], 1)[0]
                assert seen[index].value == float(logits.max())


def test_a_token_that_was_not_seen_does_not_pass() -> None:
    gap = of_token({}, 3, 7).gap
    assert not gap <= 0


def test_a_token_other_than_the_one_seen_does_not_pass() -> None:
    target = table_target()
    witness = RecordingVerifier(Coupled())
    decoder = Decoder.of(target, NoDrafter(), witness, Stop(2))
    results = decoder.generate([[0]])
    [seen] = witness.seen(results)
    assert of_token(seen, 0, results[0].token_ids[0]).gap == 0
    assert not of_token(seen, 0, (results[0].token_ids[0] + 1) % 4).gap <= 0


class Forging(Lenient):
    """Raise the logits of the tokens that it wants to keep."""

    def verify(self, context: Context, draft: Draft, logits: Tensor, chance: Chance) -> Verdict:
        if draft.tokens.shape[1]:
            logits[:, :-1].scatter_(-1, draft.tokens[..., None], 99.0)
        return super().verify(context, draft, logits, chance)


class Sly(Lenient):
    """Keep near runners-up, then overwrite the logits as if they had been the best, so that no version counts it."""

    def verify(self, context: Context, draft: Draft, logits: Tensor, chance: Chance) -> Verdict:
        verdict = super().verify(context, draft, logits, chance)
        tokens = append_bonus(draft.tokens, verdict.accepted, verdict.next_tokens)
        logits.data.scatter_(-1, tokens[..., None], 1.0 + logits.amax(-1, keepdim=True))
        return verdict


@pytest.mark.parametrize("sampling", [{}, {"sampling": COUPLED}], ids=["greedy", "coupled"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
def test_logits_that_are_overwritten_behind_autograd_are_judged_as_they_were(
    dtype: torch.dtype, sampling: dict[str, Any]
) -> None:
    plugin = Given(lambda cache: RoundedTable(random_table(), cache, dtype), verifier=Sly(0.5))
    [certificate] = certify(config_of(verifier="given", **sampling), plugin)
    assert not certificate.passed
    assert {divergence.check for divergence in certificate.divergences} == {"own_logits"}
    assert all(divergence.gap > 0 for divergence in certificate.divergences)


def test_a_verifier_that_forges_what_it_sees_is_refused() -> None:
    def made(cache: Any) -> RoundedTable:
        return RoundedTable(random_table(), cache, random_table().dtype)

    with pytest.raises(InputError, match="verifier 'Forging' changed the logits"):
        certify(config_of(verifier="given"), Given(made, verifier=Forging(0.0)))
    [certificate] = certify(config_of(verifier="given"), Given(made, verifier=Lenient(0.0)))
    assert certificate.passed
