"""Prompt lookup against its definition, written out naively."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from orthrus_drafters.prompt_lookup import NgramIndex


def naive(tokens: list[int], sizes: range, length: int) -> list[int]:
    """Return what follows the newest earlier occurrence of the longest n-gram at the end."""
    for size in sizes:
        suffix = tokens[len(tokens) - size :]
        for start in range(len(tokens) - size - 1, -1, -1):
            if len(suffix) == size and tokens[start : start + size] == suffix:
                return tokens[start + size : start + size + length]
    return []


@given(
    tokens=st.lists(st.integers(0, 3), min_size=1, max_size=40),
    least=st.integers(1, 3),
    more=st.integers(0, 3),
    length=st.integers(1, 6),
    pieces=st.lists(st.integers(1, 7)),
)
def test_it_is_the_definition_however_the_text_arrives(
    tokens: list[int], least: int, more: int, length: int, pieces: list[int]
) -> None:
    sizes = range(least + more, least - 1, -1)
    history, fed = NgramIndex(tokens[:1], sizes), 1
    for piece in [*pieces, len(tokens)]:
        history.extend(tokens[fed : fed + piece])
        fed = min(len(tokens), fed + piece)
        assert history.continuation(length) == naive(tokens[:fed], sizes, length)


def test_longest_first_then_newest() -> None:
    assert NgramIndex([1, 2, 3, 9, 2, 3, 7, 1, 2, 3], range(3, 0, -1)).continuation(2) == [9, 2]
    assert NgramIndex([2, 3, 9, 2, 3, 7, 1, 2, 3], range(3, 0, -1)).continuation(2) == [7, 1]
    assert NgramIndex([1, 1, 1], range(3, 0, -1)).continuation(4) == [1]
    assert NgramIndex([1, 2, 3], range(3, 0, -1)).continuation(4) == []
