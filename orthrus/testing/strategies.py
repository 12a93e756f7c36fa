"""Hypothesis strategies for what decoding depends on: tables, prompts, stops, settings, what is right in a draft.

Tokens are numbers below `vocabulary`; a table of as many letters has them all. Everything shrinks towards little: short
prompts, few rows, no settings.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from orthrus.interfaces import KVCache
from orthrus.reference.cache import PlainCache
from orthrus.reference.table import TableTarget, random_table
from orthrus.settings import Sampling, Stop
from orthrus.testing.doubles.drafters import Turn
from orthrus.testing.with_hypothesis import strategies as st

LETTERS = "abcdefghijklmnopqrstuvwxyz"


def tables(
    vocabulary: int = 4, orders: Sequence[int] = (2,), cache: Callable[[], KVCache] = PlainCache
) -> st.SearchStrategy[TableTarget]:
    """Draw targets that are lookup tables, each over a cache of its own; orders: how many tokens the next needs."""
    alphabet = st.just(LETTERS[:vocabulary])
    return st.builds(random_table, st.integers(0, 999), alphabet, st.sampled_from(orders), st.builds(cache))


def prompts(vocabulary: int, longest: int = 8) -> st.SearchStrategy[list[int]]:
    """Draw one prompt of 1 to `longest` tokens."""
    return st.lists(st.integers(0, vocabulary - 1), min_size=1, max_size=longest)


def batches(vocabulary: int, longest: int = 8, rows: int = 5) -> st.SearchStrategy[list[list[int]]]:
    """Draw 1 to `rows` prompts, each of its own length."""
    return st.lists(prompts(vocabulary, longest), min_size=1, max_size=rows)


def stop_tokens(vocabulary: int, most: int = 3) -> st.SearchStrategy[frozenset[int]]:
    """Draw up to `most` tokens that end an answer."""
    return st.frozensets(st.integers(0, vocabulary - 1), max_size=most)


def stop_strings(alphabet: str, most: int = 2) -> st.SearchStrategy[tuple[str, ...]]:
    """Draw up to `most` texts of 1 to 3 letters that end an answer."""
    return st.lists(st.text(alphabet, min_size=1, max_size=3), max_size=most).map(tuple)


def stops(vocabulary: int, most: int = 12, *, tokens: int = 3, strings: int = 0) -> st.SearchStrategy[Stop]:
    """Draw limits from 0 to `most`, minima that fit, up to so many stop tokens, and so many strings of a table."""
    stop_texts = stop_strings(LETTERS[:vocabulary], strings) if strings else st.just(())
    return st.integers(0, most).flatmap(
        lambda limit: st.builds(
            Stop, st.just(limit), st.just(0) | st.integers(0, limit), stop_tokens(vocabulary, tokens), stop_texts
        )
    )


def samplings(vocabulary: int, temperatures: Sequence[float] = (0.0, 0.5, 1.0, 2.0)) -> st.SearchStrategy[Sampling]:
    """Draw settings, each on or off; never so many bad words that no token is left."""
    token = st.integers(0, vocabulary - 1)
    words = st.lists(token, min_size=1, max_size=3).map(tuple)
    bad_words = st.lists(words, max_size=3).filter(
        lambda word_list: len({word[-1] for word in word_list}) < vocabulary - 1
    )
    return st.builds(
        Sampling,
        temperature=st.sampled_from(temperatures),
        top_k=st.none() | st.integers(1, vocabulary),
        top_p=st.just(1.0) | st.floats(0.05, 0.95),
        min_p=st.just(0.0) | st.floats(0.05, 0.95),
        repetition_penalty=st.just(1.0) | st.floats(0.5, 2.0),
        presence_penalty=st.just(0.0) | st.floats(-1.0, 2.0),
        frequency_penalty=st.just(0.0) | st.floats(-1.0, 2.0),
        logit_bias=st.dictionaries(token, st.floats(-2.0, 2.0), max_size=2),
        bad_words=bad_words.map(tuple),
    )


def histories(most: int = 8, width: int = 5) -> st.SearchStrategy[list[Turn]]:
    """Draw 1 to `most` turns for a `HistoryDrafter`: how much of each draft is accepted, and how much refused."""
    turn = st.builds(Turn, right=st.integers(0, width), wrong=st.integers(0, width))
    return st.lists(turn, min_size=1, max_size=most)
