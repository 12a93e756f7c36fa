"""The pure functions on logits and drafts, against the same written as loops."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from orthrus.sampling import accept_greedy, append_bonus, cut_at_stop, suppress_tokens

small = st.integers(0, 3)


@st.composite
def drafts(draw: st.DrawFn) -> tuple[list[list[int]], list[list[int]], list[int]]:
    rows, width = draw(st.integers(1, 4)), draw(st.integers(0, 5))
    tokens = draw(st.lists(st.lists(small, min_size=width, max_size=width), min_size=rows, max_size=rows))
    choices = draw(st.lists(st.lists(small, min_size=width + 1, max_size=width + 1), min_size=rows, max_size=rows))
    lengths = draw(st.lists(st.integers(0, width), min_size=rows, max_size=rows))
    return tokens, choices, lengths


@given(drafts())
def test_accept_greedy(case: tuple[list[list[int]], list[list[int]], list[int]]) -> None:
    tokens, choices, lengths = case
    wanted = []
    for row, choice, length in zip(tokens, choices, lengths, strict=True):
        count = 0
        while count < length and row[count] == choice[count]:
            count += 1
        wanted.append(count)
    shaped = torch.tensor(tokens, dtype=torch.int64).reshape(len(tokens), -1)
    assert accept_greedy(torch.tensor(choices), shaped, torch.tensor(lengths)).tolist() == wanted


@given(drafts(), st.lists(small, max_size=2))
def test_what_is_committed(case: tuple[list[list[int]], list[list[int]], list[int]], stops: list[int]) -> None:
    tokens, choices, lengths = case
    bonus = [choice[length] for choice, length in zip(choices, lengths, strict=True)]
    shaped = torch.tensor(tokens, dtype=torch.int64).reshape(len(tokens), -1)
    candidates = append_bonus(shaped, torch.tensor(lengths), torch.tensor(bonus))
    counts = cut_at_stop(candidates, torch.tensor(lengths) + 1, torch.tensor(stops, dtype=torch.int64)).tolist()
    for row, length, last, candidate, count in zip(tokens, lengths, bonus, candidates.tolist(), counts, strict=True):
        whole = [*row[:length], last]
        stop = next((index for index, token in enumerate(whole) if token in stops), len(whole) - 1)
        assert candidate[:count] == whole[: stop + 1]


def test_suppress_tokens_only_where_told() -> None:
    logits = torch.zeros(1, 3, 4)
    out = suppress_tokens(logits, torch.tensor([1, 2]), torch.tensor([[True, False, True]]))
    assert out.isinf().tolist() == [[[False, True, True, False], [False] * 4, [False, True, True, False]]]
    assert not logits.isinf().any()
