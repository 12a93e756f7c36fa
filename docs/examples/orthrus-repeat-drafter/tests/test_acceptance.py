"""A drafter that is never right passes every check of conformance; that this one is right needs tests of its own."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

import orthrus
from orthrus.testing.strategies import prompts
from orthrus_repeat.drafter import Followers

CONFIG = {
    "target": {"name": "table", "order": 1},
    "cache": {"name": "dynamic"},
    "drafter": {"name": "repeat", "length": 6},
    "verifier": {"name": "consensus"},
    "stop": {"max_new_tokens": 64},
}


@given(prompts(3, longest=12), st.integers(1, 5))
def test_a_guess_goes_the_way_that_the_text_went_last(tokens: list[int], most: int) -> None:
    before = tokens[-1]
    for guess in Followers(tokens).guess(most):
        last = max(index for index, token in enumerate(tokens[:-1]) if token == before)
        assert tokens[last + 1] == guess
        before = guess


def test_a_text_that_goes_in_circles_is_drafted_whole() -> None:
    [answer] = orthrus.load(CONFIG).generate(["abc"])
    [plain] = orthrus.load(CONFIG, drafter="none").generate(["abc"])
    assert answer.token_ids == plain.token_ids
    assert answer.measures.tokens_per_cycle > 4
