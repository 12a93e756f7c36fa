"""Widths noted without a change of what decoding runs: choices where it scores these, logits elsewhere."""

from __future__ import annotations

import time
from collections import Counter

import pytest
from support.counted_passes import count_passes
from support.recordings import recording_target
from torch import Tensor

from orthrus import Chance, Context, Decoder, Draft, Sampling, Stop, Verdict, Verifier
from orthrus.choices import verify_choices_of
from orthrus.drafting.width_verifier import WidthVerifier
from orthrus.prediction.timing import step_times
from orthrus.prediction.watching import TracingVerifier
from orthrus.settings import WarmUp
from orthrus.warm_up import warm_up
from orthrus_drafters.prompt_lookup import PromptLookup
from orthrus_verifiers.consensus import Consensus
from orthrus_verifiers.coupled import Coupled
from orthrus_verifiers.rejection import Rejection

PROMPTS = [[1, 2, 3] * 4, [4, 5] * 5]


class Wary(Consensus):
    """Have a say on logits, which choices would leave out."""

    def verify(self, context: Context, draft: Draft, logits: Tensor, chance: Chance) -> Verdict:
        return super().verify(context, draft, logits, chance)


@pytest.mark.parametrize(
    ("verifier", "temperature", "kind"),
    [
        (Consensus(), 0.0, "choices"),
        (Coupled(), 0.0, "choices"),
        (Coupled(), 0.9, "logits"),
        (Rejection(), 0.0, "logits"),
        (Wary(), 0.0, "logits"),
    ],
)
def test_passes_are_those_that_decoding_runs(verifier: Verifier, temperature: float, kind: str) -> None:
    target = recording_target()
    passes = count_passes(target)
    sampling = Sampling(temperature=temperature)
    decoder = Decoder.of(target, PromptLookup(2, 1, 3), verifier, Stop(10), sampling=sampling)
    decoder.generate(PROMPTS, batch=1)
    decoded = Counter(passes)
    assert decoded.keys() == {kind}
    passes.clear()
    times = step_times(decoder, PROMPTS, 1, time.perf_counter)
    assert passes == decoded
    assert len(times) == decoded[kind] + len(PROMPTS) and max(step.drafts for step in times) == 3


@pytest.mark.parametrize(
    ("temperature", "kind"), [(0.0, "choices"), pytest.param(0.9, "logits", marks=pytest.mark.thorough)]
)
def test_a_warm_up_runs_the_passes_that_decoding_runs(temperature: float, kind: str) -> None:
    target = recording_target()
    passes, sampling = count_passes(target), Sampling(temperature=temperature)
    decoder = Decoder.of(target, PromptLookup(2, 1, 3), Coupled(), Stop(10), sampling=sampling)
    assert warm_up(decoder, WarmUp(rows=1, tokens=60)).done == 1
    assert passes.keys() == {kind}


def test_who_reads_logits_of_a_pass_is_given_them() -> None:
    assert verify_choices_of(WidthVerifier.around(Consensus())) is not None
    assert verify_choices_of(TracingVerifier(Consensus())) is None
