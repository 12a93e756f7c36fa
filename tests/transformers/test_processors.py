"""Sampling settings are transformers' logits processors, and OpenAI's two penalties, at every place of a draft."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from transformers import (
    LogitsProcessorList,
    MinPLogitsWarper,
    NoBadWordsLogitsProcessor,
    RepetitionPenaltyLogitsProcessor,
    SequenceBiasLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from orthrus import Context, Draft, Sampling, Scheduler, Step, Stop, Verdict
from orthrus.sampling.logits_processor import LogitsProcessor
from orthrus.testing import processed
from orthrus.testing.profiles import fewer
from orthrus.testing.strategies import samplings

VOCABULARY = 7
LONGEST_WORD = 3  # of the strategy's bad words


def theirs(sampling: Sampling) -> LogitsProcessorList:
    """Return transformers' processors in the order in which `generate` applies them."""
    processors = LogitsProcessorList()
    if sampling.logit_bias:
        processors.append(SequenceBiasLogitsProcessor({(token,): bias for token, bias in sampling.logit_bias.items()}))
    if sampling.repetition_penalty != 1:
        processors.append(RepetitionPenaltyLogitsProcessor(sampling.repetition_penalty))
    if sampling.bad_words:
        processors.append(NoBadWordsLogitsProcessor([list(word) for word in sampling.bad_words], eos_token_id=None))
    if sampling.temperature not in (0, 1):
        processors.append(TemperatureLogitsWarper(sampling.temperature))
    if sampling.temperature and sampling.top_k is not None:
        processors.append(TopKLogitsWarper(sampling.top_k))
    if sampling.temperature and sampling.top_p < 1:
        processors.append(TopPLogitsWarper(sampling.top_p))
    if sampling.temperature and sampling.min_p > 0:
        processors.append(MinPLogitsWarper(sampling.min_p))
    return processors


def ours(
    sampling: Sampling, prompts: Sequence[Sequence[int]], committed: Tensor, drafts: Tensor, logits: Tensor
) -> Tensor:
    """Return processed logits [B, n + 1, V] for rows that have committed tokens [B, m] after their prompts."""
    context = Context(prompts, Stop(50), vocabulary_size=VOCABULARY, sampling=sampling)
    scheduler = Scheduler(context)
    scheduler.refill()
    for tokens in committed.T:
        step = scheduler.commit(context.empty_draft(), Verdict(torch.zeros_like(tokens), tokens))
        assert isinstance(step, Step)
    draft = Draft(drafts, torch.full((len(prompts),), drafts.shape[1]))
    return LogitsProcessor.of(context)(context, draft, logits)


tokens = st.integers(0, VOCABULARY - 1)


@fewer(2)
@given(
    sampling=samplings(VOCABULARY, temperatures=(0.0, 0.6, 1.0, 1.7)),
    prompts=st.lists(st.lists(tokens, min_size=LONGEST_WORD, max_size=6), min_size=1, max_size=3),
    committed=st.integers(1, 4),
    width=st.integers(0, 4),
    seed=st.integers(0, 10_000),
    dtype=st.sampled_from([torch.float64, torch.float32]),
)
def test_every_place_of_a_draft_is_what_transformers_makes_of_it(
    sampling: Sampling, prompts: list[list[int]], committed: int, width: int, seed: int, dtype: torch.dtype
) -> None:
    generator = torch.Generator().manual_seed(seed)
    output = torch.randint(VOCABULARY, (len(prompts), committed), generator=generator)
    drafts = torch.randint(VOCABULARY, (len(prompts), width), generator=generator)
    logits = torch.randn(len(prompts), width + 1, VOCABULARY, generator=generator, dtype=torch.float64).to(dtype)
    ours_processed = ours(sampling, prompts, output, drafts, logits)
    for row, prompt in enumerate(prompts):
        for index in range(width + 1):
            past = output[row].tolist() + drafts[row, :index].tolist()
            penalized = _penalized(logits[row, index], past, sampling)
            seen = torch.tensor([prompt + past])
            if sampling.presence_penalty == 0 == sampling.frequency_penalty:
                assert_same(ours_processed[row, index], theirs(sampling)(seen, logits[row, index][None])[0], 1e-6)
            elif sampling.repetition_penalty == 1 and not sampling.logit_bias:
                assert_same(ours_processed[row, index], theirs(sampling)(seen, penalized[None])[0], 1e-6)
            wanted = processed(logits[row, index], prompt, past, Stop(50), sampling)
            assert_same(ours_processed[row, index], wanted, 1e-12 if dtype == torch.float64 else 1e-5)


def _penalized(logits: Tensor, output: Sequence[int], sampling: Sampling) -> Tensor:
    """Return the logits under OpenAI's formula, which transformers lacks: mu - c * frequency - (c > 0) * presence."""
    counts = torch.tensor([output.count(token) for token in range(VOCABULARY)], dtype=logits.dtype)
    return logits - counts * sampling.frequency_penalty - (counts > 0).to(logits.dtype) * sampling.presence_penalty


def assert_same(processed: Tensor, wanted: Tensor, close: float) -> None:
    """Assert that the same tokens are possible, and their logits equal to rounding; theirs hold biases in float32."""
    torch.testing.assert_close(processed.double(), wanted.double(), rtol=close, atol=close)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_halves_are_widened_before_anything_is_done_to_them(dtype: torch.dtype) -> None:
    logits = torch.randn(1, 1, VOCABULARY, dtype=dtype)
    sampling = Sampling(0.7, repetition_penalty=1.3, presence_penalty=0.1)
    ours_processed = ours(sampling, [[1, 2, 3]], torch.tensor([[1]]), torch.zeros(1, 0, dtype=torch.int64), logits)
    assert ours_processed.dtype == torch.float32
    assert_same(ours_processed[0, 0], processed(logits[0, 0], [1, 2, 3], [1], Stop(50), sampling), 1e-5)


def test_what_is_off_costs_nothing() -> None:
    logits = torch.randn(1, 1, VOCABULARY, dtype=torch.bfloat16)
    off = ours(Sampling(1.0), [[1, 2, 3]], torch.tensor([[1]]), torch.zeros(1, 0, dtype=torch.int64), logits)
    assert off is logits
