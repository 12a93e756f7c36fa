"""The drafter `draft_model`: lossless whatever its model says, right wherever its model is, and paid by its weights."""

from __future__ import annotations

import functools
import itertools
import random
from itertools import islice
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.building import (
    assert_held,
    decode_with,
    family_oracle,
    table_target,
    transformers_target,
)
from support.families import CONTEXT, VOCABULARY, tiny_model
from support.recordings import recording_target
from support.sampled import coupled_answers, decoded, greedy_answers
from support.sessions import assert_alone, decoder_of, random_request
from support.sessions import decoded as session_decoded
from support.thorough import nightly_but, thorough_but
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerFast

import orthrus
from orthrus import BuildError, Context, Drafter, Sampling, Step, Stop, Target
from orthrus.optional import HasVocabulary
from orthrus.reference.table import Letters
from orthrus.testing import TableTarget, drafter_checks
from orthrus.testing.profiles import fewer
from orthrus.testing.strategies import batches, samplings, stops, tables
from orthrus_attention.sdpa import SdpaAttention
from orthrus_caches.dynamic import DynamicCache
from orthrus_caches.static import StaticCache
from orthrus_draft_model.drafter import DraftModel
from orthrus_draft_model.facts import share_of_weights
from orthrus_draft_model.vocabulary import check_vocabulary, fitted, known
from orthrus_transformers.loading.tokenizer import TextTokenizer
from orthrus_transformers.target import TransformersTarget
from orthrus_verifiers.consensus import Consensus
from orthrus_verifiers.coupled import Coupled
from orthrus_verifiers.rejection import Rejection

CHECKS = drafter_checks()
QUICK = ("draft_fits_the_room", "history_leaves_no_trace")
# Every check where drafts end as the model is unsure, and some of them where none does.
KIT = list(itertools.product([None, 0.5], CHECKS))
WHOLE = [(confidence, check) for confidence, check in KIT if confidence or check.name in (*QUICK, "greedy_text")]
PROMPTS = [[1, 2, 3], [7], [4, 5, 4, 5, 4, 4, 5], [2, 2]]


def another_table(target: Target, share: float = 0.7) -> TableTarget:
    """Return a table that says what a target of the kit says in some places, and something else in others."""
    size = target.vocabulary_size
    own = torch.stack([target.logits([token], 1)[0] for token in range(size)])  # of the last token alone
    noise = torch.randn(size, size, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return TableTarget(share * own + (1 - share) * noise, DynamicCache(), max_length=target.max_length)


@pytest.mark.parametrize(
    ("confidence", "check"),
    nightly_but([(0.5, check) for check in CHECKS if check.name == QUICK[0]], KIT, thorough=WHOLE),
    ids=str,
)
def test_the_kit_accepts_it(confidence: float | None, check: Any) -> None:
    check(lambda target: DraftModel(target, another_table(target), 2, confidence))


@fewer(6)
@given(
    target=tables(4, cache=DynamicCache),
    own=tables(4, cache=DynamicCache),
    prompts=batches(4, longest=6, rows=6),
    stop=stops(4, 12, tokens=1, strings=1),
    sampling=samplings(4, temperatures=(0.0, 0.5, 1.0)),
    length=st.integers(1, 7),
    confidence=st.sampled_from([None, 0.3, 0.6]),
    moves=st.booleans(),
    batch=st.integers(1, 5),
)
def test_whatever_it_says_the_text_is_the_oracles(
    target: TableTarget,
    own: TableTarget,
    prompts: list[list[int]],
    stop: Stop,
    sampling: Sampling,
    length: int,
    confidence: float | None,
    moves: bool,
    batch: int,
) -> None:
    own.moves_rows = moves
    ids = [str(index) for index in range(len(prompts))]
    drawn = sampling.temperature > 0
    wanted = (
        coupled_answers(target, prompts, stop, sampling, 3, ids)
        if drawn
        else greedy_answers(target, prompts, stop, sampling)
    )
    for verifier in (Coupled(), Consensus())[: 2 - drawn]:
        drafter = DraftModel(target, own, length, confidence)
        assert decoded(target, drafter, verifier, prompts, stop, sampling, 3, batch) == wanted


def static_target(family: str, engine: str) -> TransformersTarget:
    return transformers_target(family, StaticCache(slots=8), chunk=5, engine=engine)


@functools.cache
def model_pair(own_family: str, engine: str) -> tuple[TransformersTarget, TransformersTarget]:
    return transformers_target("llama"), static_target(own_family, engine)


@pytest.mark.parametrize(
    ("family", "engine"),
    thorough_but([("gpt2", "auto")], [("gpt2", "auto"), ("llama", "fused"), ("lfm2", "auto")]),
)
@fewer(12)
@given(
    prompts=batches(VOCABULARY, longest=14, rows=4),
    stop=stops(VOCABULARY),
    length=st.integers(1, 6),
    confidence=st.sampled_from([None, 0.2]),
    batch=st.integers(1, 4),
)
def test_models_draft_for_a_model(
    family: str, engine: str, prompts: list[list[int]], stop: Stop, length: int, confidence: float | None, batch: int
) -> None:
    target, own = model_pair(family, engine)
    results = decode_with(target, DraftModel(target, own, length, confidence), prompts, stop, batch=batch)
    assert_held(results, family_oracle(), prompts, stop)


def left(limit: int, length: int) -> list[int]:
    """Return how many drafts are accepted in each cycle if all are, of an answer of so many tokens."""
    accepted, room = [], limit - 1
    while room > 0:
        accepted.append(min(length, room))
        room -= length + 1
    return accepted


TWINS = list(itertools.product(["eager", "fused", "recorded"], [1, 3], [True, False], [0.0, 0.7]))
EVERY_RUN = [("eager", 3, True, 0.7), ("eager", 3, False, 0.0), ("fused", 3, True, 0.0), ("recorded", 1, True, 0.7)]


@pytest.mark.parametrize(
    ("engine", "batch", "moves", "temperature"), nightly_but(EVERY_RUN, TWINS, thorough=TWINS[::2])
)
def test_a_twin_of_the_target_is_always_right(engine: str, batch: int, moves: bool, temperature: float) -> None:
    # A wrong draft costs time only: that caches are cropped, caught up and moved rightly needs a test of its own.
    target = transformers_target()
    own = recording_target(chunk=5) if engine == "recorded" else static_target("llama", engine)
    own.moves_rows = moves
    drafter = DraftModel(target, own, 4)
    results = decode_with(target, drafter, PROMPTS, Stop(14), 0, batch, Coupled(), Sampling(temperature=temperature))
    for result in results:
        assert list(result.measures.accepted_per_cycle) == left(14, 4)


class Wrong(DraftModel):
    """Spoil every other draft from its second token on, so that the draft model's cache must be cropped."""

    count = 0

    def propose(self, context: Context, chance: orthrus.Chance) -> orthrus.Draft:
        draft = super().propose(context, chance)
        self.count += 1
        if self.count % 2 or draft.tokens.shape[1] < 2:
            return draft
        tokens = draft.tokens.clone()
        tokens[:, 1:] = (tokens[:, 1:] + 1) % VOCABULARY
        return orthrus.Draft(tokens, draft.lengths)


@pytest.mark.parametrize("family", ["llama", "lfm2"])
def test_what_was_rejected_is_cropped(family: str) -> None:
    target = transformers_target(family)
    drafter = Wrong(target, transformers_target(family), 3)
    (result,) = decode_with(target, drafter, [[1, 2, 3]], Stop(30))
    assert result.measures.accepted_per_cycle[:8] == (3, 1) * 4


@pytest.mark.parametrize("interleaves", thorough_but([True], [True, False]))
def test_sessions(interleaves: bool) -> None:
    target = transformers_target(chunk=4)
    drafter = DraftModel(target, transformers_target("gpt2"), 3)
    chooser = random.Random(1)
    requests = [random_request(chooser, f"r{number}", VOCABULARY) for number in range(8)]
    session = decoder_of(target, drafter).session(3, interleaves=interleaves)
    answers = session_decoded(session, requests, chooser)
    for request in requests:
        assert_alone(target, request, answers[request.id])


def test_a_session_of_twins_is_right_from_the_first_cycle_on() -> None:
    target = transformers_target(chunk=4)
    decoder = orthrus.Decoder.of(target, DraftModel(target, transformers_target(), 3), Consensus(), Stop(12))
    session = decoder.session(4, interleaves=True)
    results = []
    for added in range(6):
        session.add(list(range(1, 4 + 5 * added)), id=str(added))
        results += [event.result for event in islice(session, 2)]
    results += [event.result for event in session]
    results = [result for result in results if result is not None]
    assert len(results) == 6
    for result in results:
        assert list(result.measures.accepted_per_cycle) == left(12, 3)


@pytest.mark.thorough
def test_a_context_that_ends_before_the_targets() -> None:
    target, prompt = transformers_target(), [1, 2, 3]
    model = tiny_model("gpt2", n_positions=16, max_position_embeddings=16)
    own = TransformersTarget(model, None, DynamicCache(), SdpaAttention())
    assert own.max_length == 16 < CONTEXT == target.max_length
    prompts = [prompt, [5] * 15, [6] * 30]
    for batch in (1, 3):
        results = decode_with(target, DraftModel(target, own, 4), prompts, Stop(30), batch=batch)
        assert_held(results, family_oracle(), prompts, Stop(30))
        alone = batch == 1  # then nothing is drafted behind a prompt that is too long
        assert (results[2].measures.passes == 1 + results[2].measures.cycles) is alone


def test_a_token_of_little_confidence_is_the_last() -> None:
    logits = torch.full((4, 4), -9.0, dtype=torch.float64)
    for token, (then, certain) in enumerate([(1, 5.0), (2, 5.0), (3, -8.9), (0, 5.0)]):
        logits[token, then] = certain
    target = TableTarget(logits, DynamicCache())
    for confidence, accepted in ((0.9, (2, 3)), (None, (3, 3))):
        drafter = DraftModel(target, TableTarget(logits, DynamicCache()), 3, confidence)
        (result,) = decode_with(target, drafter, [[0, 0]], Stop(9))
        assert result.measures.accepted_per_cycle[:2] == accepted


def test_passes_are_counted_by_weights() -> None:
    target, own = (
        transformers_target(),
        TransformersTarget(tiny_model("llama", num_hidden_layers=1), None, DynamicCache(), SdpaAttention()),
    )
    layers, outside = 2 * 32 * 32 + 2 * 32 * 16 + 3 * 32 * 32 + 2 * 32, 32 + 32 * VOCABULARY
    share = (layers + outside) / (2 * layers + outside)
    assert share_of_weights(own, target) == pytest.approx(share)
    half = TransformersTarget(tiny_model("llama", dtype=torch.float32), None, DynamicCache(), SdpaAttention())
    assert share_of_weights(half, target) == 1  # by number, not by bytes
    assert share_of_weights(table_target(), target) == 1  # one that does not tell
    (result,) = decode_with(target, DraftModel(target, own, 3), [[1, 2, 3]], Stop(9))
    drafted = sum(min(3, room) for room in rooms(result.measures.accepted_per_cycle, 8))
    passes = 1 + result.measures.cycles + share * (1 + drafted)  # each with its prefill
    assert result.measures.passes == pytest.approx(passes)


def rooms(accepted: tuple[int, ...], room: int) -> list[int]:
    """Return the room before each cycle."""
    return [room - sum(count + 1 for count in accepted[:cycle]) for cycle in range(len(accepted))]


def config(**drafter: Any) -> dict[str, Any]:
    target = {"name": "table", "alphabet": "abcd", "seed": 3}
    return {
        "target": target,
        "cache": {"name": "dynamic"},
        "drafter": {"name": "draft_model", **drafter},
        "verifier": {"name": "coupled"},
    }


@pytest.mark.parametrize(
    ("alphabet", "sentence"),
    [
        (
            "abcde",
            "has another vocabulary than target 'TableTarget': 5 tokens, not 4; token 4 is the first: 'e' and none",
        ),
        (
            "abdc",
            "has another vocabulary than target 'TableTarget', of 4 tokens as well; token 2 is the first: 'd' and 'c'",
        ),
    ],
)
def test_another_vocabulary_is_refused(alphabet: str, sentence: str) -> None:
    with pytest.raises(BuildError) as raised:
        orthrus.load(config(target={"name": "table", "alphabet": alphabet}))
    assert sentence in str(raised.value)


def test_models_without_tokenizers_are_compared_by_size() -> None:
    model = tiny_model("llama", vocab_size=VOCABULARY + 8)
    larger = TransformersTarget(model, None, DynamicCache(), SdpaAttention())
    with pytest.raises(BuildError, match="48 tokens, not 40; token 40 is the first that only one of them has"):
        check_vocabulary(larger, transformers_target())


@pytest.mark.parametrize("more", [-3, 3])
def test_logits_that_are_padded_otherwise_do(more: int) -> None:
    # Both tokenizers have 4 tokens; the models' logits 9 and more, or fewer.
    alphabet, generator = "abcd", torch.Generator().manual_seed(0)
    target = TableTarget(
        torch.randn(9, 9, generator=generator).double(), DynamicCache(), tokenizer=Letters(alphabet, range(4, 12))
    )
    sizes = 9 + more
    table = torch.randn(sizes, sizes, generator=generator).double()
    own = TableTarget(table, DynamicCache(), tokenizer=Letters(alphabet, range(4, 12)))
    check_vocabulary(own, target)
    assert fitted(own.logits([0], 1), 9).shape == (1, 9)
    assert int(known(torch.tensor(8), sizes)) < sizes
    for sampling in (Sampling(), Sampling(temperature=0.9)):
        prompts, stop = [[0, 1], [2]], Stop(12)
        drawn = coupled_answers(target, prompts, stop, sampling, 3, ["0", "1"]) if sampling.temperature else None
        wanted = drawn or greedy_answers(target, prompts, stop, sampling)
        assert decoded(target, DraftModel(target, own, 3), Coupled(), [[0, 1], [2]], Stop(12), sampling, 3) == wanted
        if sampling.temperature:  # what is reported must be what was drawn from
            decode_with(target, DraftModel(target, own, 3), [[0, 1]], Stop(12), 0, 1, Rejection(), sampling)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({}, "source: names the draft model, or target does"),
        ({"source": "x", "target": {"name": "table"}}, "source: names the draft model, or target does"),
        ({"target": {"name": "table"}, "dtype": "float32"}, "dtype: goes with source"),
        ({"target": {"name": "tabel"}}, "drafter.target.name: unknown target 'tabel'"),
        ({"target": {"name": "table", "sead": 1}}, "drafter.target.sead: unknown option"),
        ({"target": {"name": "table"}, "length": 0}, "length"),
        ({"source": "x", "held_by": "lead", "confidence": 0.5}, "held_by: lead does not go with confidence"),
        (
            {"target": {"name": "table", "parallel": 2}, "held_by": "lead"},
            "held_by: lead holds the draft model whole",
        ),
    ],
)
def test_bad_options_are_one_sentence(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(orthrus.ConfigError) as raised:
        orthrus.load(config(**options))
    assert sentence in str(raised.value)


def test_one_process_holds_the_model_whoever_is_to() -> None:
    every, lead = (
        orthrus.load(config(target={"name": "table", "alphabet": "abcd", "seed": 5}, **more)).generate(["abcab"])[0]
        for more in ({}, {"held_by": "lead"})
    )
    assert lead.token_ids == every.token_ids
    assert lead.measures.accepted_per_cycle == every.measures.accepted_per_cycle and any(
        every.measures.accepted_per_cycle
    )


def test_a_model_that_is_not_there_is_one_sentence() -> None:
    attention = {"name": "sdpa"}
    with pytest.raises(
        orthrus.InputError, match=r"the draft model of drafter 'draft_model': target\.source: there is no"
    ):
        orthrus.load({**config(source="/nowhere"), "attention": attention})


def test_tokenizers_of_models_tell_their_tokens() -> None:
    tokens = {"[UNK]": 0, "a": 1, "b": 2}
    words = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(WordLevel(tokens, "[UNK]")))
    words.add_tokens(["c"])
    target, own = table_target(), table_target()
    target.tokenizer = tokenizer = TextTokenizer(words, chat=False)
    assert isinstance(tokenizer, HasVocabulary) and tokenizer.vocabulary() == {**tokens, "c": 3}
    own.tokenizer = Letters("abcd")
    with pytest.raises(BuildError, match=r"of 4 tokens as well; token 0 is the first: 'a' and '\[UNK\]'"):
        check_vocabulary(own, target)
    own.tokenizer = TextTokenizer(words, chat=True)
    check_vocabulary(own, target)


@pytest.mark.parametrize("length", [3, "auto"])
def test_from_a_config(length: int | str) -> None:
    wanted = orthrus.load({**config(), "drafter": {"name": "none"}}).generate(["abc", "b"])
    decoder = orthrus.load(config(target={"name": "table", "alphabet": "abcd", "seed": 3}, length=length))
    results = decoder.generate(["abc", "b"])
    assert [result.token_ids for result in results] == [result.token_ids for result in wanted]
    drafter: Drafter = decoder.drafter
    assert drafter.learns is (length == "auto")
    if length == 3:
        assert all(results[0].measures.accepted_per_cycle[:-1])


def test_a_step_that_is_not_observed_costs_no_more_than_time() -> None:
    class Unobserved(DraftModel):
        def observe(self, step: Step) -> None:
            pass

    target = transformers_target()
    for own in (transformers_target(), transformers_target("gpt2")):
        results = decode_with(target, Unobserved(target, own, 4), PROMPTS, Stop(14), batch=2)
        assert_held(results, family_oracle(), PROMPTS, Stop(14))
