"""Suffix decoding against its definition, written out naively; its memory's bound; what it learns from answers."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.building import assert_lossless, decode_with, table_target, target_oracle

from orthrus import Sampling, Stop
from orthrus.testing.profiles import fewer
from orthrus.testing.rollback_machine import rollback_machine
from orthrus.testing.strategies import batches, samplings, stops
from orthrus_drafters.answer_memory import AnswerMemory
from orthrus_drafters.none import NoDrafter
from orthrus_drafters.options import SuffixOptions
from orthrus_drafters.suffix import RowText, Suffix
from orthrus_drafters.suffix_automaton import SuffixAutomaton, match_of
from orthrus_verifiers.coupled import Coupled

Tokens = Sequence[int]
TEXTS = st.lists(st.lists(st.integers(0, 2), max_size=14), max_size=5)


def places(texts: Sequence[Tokens], part: Tokens) -> list[tuple[int, int]]:
    """Return where a part of texts ends: text and index after it, oldest first."""
    width = len(part)
    return [
        (number, end)
        for number, text in enumerate(texts)
        for end in range(width, len(text) + 1)
        if list(text[end - width : end]) == list(part)
    ]


def followers(texts: Sequence[Tokens], part: Tokens) -> list[int]:
    """Return every token that followed a part, oldest first."""
    return [texts[number][end] for number, end in places(texts, part) if end < len(texts[number])]


def naive_match(texts: Sequence[Tokens], tokens: Tokens, longest: int, followed: bool = True) -> list[int]:
    """Return the longest suffix of tokens that a token of the texts followed; or that is a part of them at all."""
    occurs = followers if followed else places
    for width in range(min(longest, len(tokens)), 0, -1):
        if occurs(texts, suffix := list(tokens[len(tokens) - width :])):
            return suffix
    return []


def naive_continuation(texts: Sequence[Tokens], match: list[int], longest: int, most: int, least: float) -> list[int]:
    """Return the most frequent follower, of equals the last seen, again and again."""
    tokens: list[int] = []
    share = 1.0
    while len(tokens) < most and (after := followers(texts, match)):
        counts, last = Counter(after), {token: index for index, token in enumerate(after)}
        best = max(counts, key=lambda token: (counts[token], last[token]))
        share *= counts[best] / len(after)
        if share < least:
            break
        tokens.append(best)
        match = [*match, best][-longest:]
    return tokens


def automaton_of(texts: Sequence[Tokens], longest: int) -> SuffixAutomaton:
    automaton = SuffixAutomaton(longest)
    for text in texts:
        automaton.begin_text()
        automaton.extend(text)
    return automaton


@given(texts=TEXTS, tokens=st.lists(st.integers(0, 3), max_size=9), longest=st.integers(1, 5))
def test_the_match_is_the_longest(texts: list[list[int]], tokens: list[int], longest: int) -> None:
    automaton = automaton_of(texts, longest)
    state, length = match_of(automaton, tokens)
    assert length == len(naive_match(texts, tokens, longest, followed=False))
    assert automaton.followed(state, length)[1] == len(naive_match(texts, tokens, longest))


@given(
    texts=TEXTS,
    tokens=st.lists(st.integers(0, 2), max_size=9),
    longest=st.integers(1, 5),
    least=st.sampled_from([0.0, 0.3, 0.6, 1.0]),
)
def test_the_continuation_is_the_most_frequent(
    texts: list[list[int]], tokens: list[int], longest: int, least: float
) -> None:
    automaton = automaton_of(texts, longest)
    state, length = automaton.followed(*match_of(automaton, tokens))
    match = naive_match(texts, tokens, longest)
    wanted = naive_continuation(texts, match, longest, 4, least) if match else []
    assert (automaton.continuation(state, length, 4, least) if length else []) == wanted


@given(
    answers=TEXTS,
    tokens=st.lists(st.integers(0, 2), min_size=1, max_size=16),
    cut=st.integers(0, 16),
    after=st.integers(0, 5),
    longest=st.integers(1, 4),
)
def test_a_row_takes_its_longest_match_wherever_it_is(
    answers: list[list[int]], tokens: list[int], cut: int, after: int, longest: int
) -> None:
    options = SuffixOptions(min_match=1, max_match=longest, per_match=1024, min_share=0.0, memory=10_000)
    memory = AnswerMemory(options.memory, longest)
    row = RowText(tokens[:cut], [], options, memory)
    for number, answer in enumerate(answers):  # that end while the row goes on
        if number == after:
            row.continuation(1)
        memory.add(answer)
    row.extend(tokens[cut:])
    own, theirs = naive_match([tokens], tokens, longest), naive_match(answers, tokens, longest)
    texts, match = ([tokens], own) if len(own) >= len(theirs) else (answers, theirs)
    assert row.continuation(4) == (naive_continuation(texts, match, longest, 4, 0.0) if match else [])


@given(texts=TEXTS, most=st.integers(0, 12), longest=st.integers(1, 4))
def test_the_memory_keeps_its_bound_and_the_newest(texts: list[list[int]], most: int, longest: int) -> None:
    memory = AnswerMemory(most, longest)
    for text in texts:
        memory.add(text)
        assert memory.size <= most
        assert sum(map(len, memory.automata())) <= 2 * memory.size + 2
    if texts and texts[-1] and most > 1:  # its last token is held, in the automaton that it was put into last
        assert match_of(memory.automata()[0], texts[-1])[1] > 0


def test_what_is_old_is_forgotten() -> None:
    memory = AnswerMemory(8, 4)
    memory.add([1, 2, 3, 4])
    memory.add([5, 6, 7, 8])
    assert [match_of(automaton, [1, 2, 3])[1] for automaton in memory.automata()] == [0, 3]
    memory.add([9])
    assert [match_of(automaton, [1, 2, 3])[1] for automaton in memory.automata()] == [0, 0]


def test_an_answer_that_comes_again_takes_no_more_memory() -> None:
    memory = AnswerMemory(100, 4)
    for _ in range(9):
        memory.add([1, 2, 3, 4, 1, 2, 5])
    assert memory.size == 7


def test_how_long_a_draft_is_follows_the_match() -> None:
    tokens = [1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 2]
    for per_match, wanted in [(0.1, 1), (0.5, 1), (1.0, 2), (1.9, 3), (3.0, 6)]:
        options = SuffixOptions(per_match=per_match, memory=0)
        assert len(RowText(tokens, [], options, AnswerMemory(0, 32)).continuation(16)) == wanted
    assert RowText(tokens, [], SuffixOptions(min_match=3), AnswerMemory(0, 32)).continuation(16) == []


def test_a_thousand_equal_tokens_take_few_steps() -> None:
    automaton = SuffixAutomaton(8)
    automaton.extend([5] * 1000)
    state, length = automaton.followed(*automaton.matched_end())
    assert length == 8
    assert automaton.continuation(state, length, 20, 0.1) == [5] * 20


@fewer(6)
@given(
    prompts=batches(4, longest=6, rows=6),
    runs=st.lists(st.tuples(stops(4, 14, tokens=2, strings=1), st.integers(1, 5)), min_size=2, max_size=3),
    table=st.integers(0, 30),
    memory=st.sampled_from([0, 16, 1000]),
)
def test_it_is_lossless_in_any_batch_again_and_again(
    prompts: list[list[int]], runs: list[tuple[Stop, int]], table: int, memory: int
) -> None:
    target = table_target(table)
    drafter = Suffix(SuffixOptions(min_match=1, memory=memory))
    for stop, batch in runs:
        answers = [target_oracle(target)(prompt, stop) for prompt in prompts]
        assert_lossless(decode_with(target, drafter, prompts, stop, batch=batch), answers)


@fewer(6)
@given(
    prompts=batches(4, longest=6, rows=6),
    stop=stops(4, 10, tokens=1, strings=1),
    sampling=samplings(4, temperatures=(0.5, 1.0)),
    table=st.integers(0, 30),
    batch=st.integers(1, 4),
)
def test_a_sample_is_what_the_noise_decides(
    prompts: list[list[int]], stop: Stop, sampling: Sampling, table: int, batch: int
) -> None:
    target, drafter = table_target(table), Suffix(SuffixOptions(min_match=1, memory=100))
    plain = decode_with(target, NoDrafter(), prompts, stop, 5, verifier=Coupled(), sampling=sampling)
    for _ in range(2):
        results = decode_with(target, drafter, prompts, stop, 5, batch, Coupled(), sampling)
        assert [result.token_ids for result in results] == [result.token_ids for result in plain]


TestForgetsWhatWasRefused = rollback_machine(
    lambda target: Suffix(SuffixOptions(length=4, min_match=1, max_match=3, memory=0))
).TestCase
TestForgetsWhatWasRefused.settings = fewer(12, stateful_step_count=15)


@pytest.mark.parametrize("batch", [1, 3])
def test_prompts_that_come_again_take_few_cycles(batch: int) -> None:
    target, stop = table_target(3, alphabet="abcdefgh"), Stop(30)
    prompts = [[number, 7 - number, number] for number in range(6)]
    cycles = {}
    for memory in (0, 1000):
        drafter = Suffix(SuffixOptions(memory=memory))
        assert drafter.learns == (memory > 0)
        runs = [decode_with(target, drafter, prompts, stop, batch=batch) for _ in range(2)]
        for first, again in itertools.pairwise(runs):
            assert [result.token_ids for result in first] == [result.token_ids for result in again]
        cycles[memory] = sum(result.measures.cycles for result in runs[1])
    assert cycles[1000] < cycles[0]
    assert cycles[1000] <= 6 * 4
