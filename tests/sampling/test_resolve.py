"""Bad words as tokens: alone and after a space, without what a tokenizer puts around every text."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from support.building import table_target

from orthrus import BuildError, Prompt, Sampling
from orthrus.sampling.resolve import resolve_sampling
from orthrus.testing import Letters


class Bracketed(Letters):
    """Put token 1 before every text and token 2 after it, as tokenizers with begin and end tokens do."""

    def __init__(self, alphabet: str, before: Sequence[int], after: Sequence[int]) -> None:
        super().__init__(alphabet)
        self._before, self._after = list(before), list(after)

    def encode(self, prompt: Prompt, chat: bool | None = None) -> list[int]:
        return self._before + super().encode(prompt, chat) + self._after


@pytest.mark.parametrize(("before", "after"), [([], []), ([1], []), ([], [2]), ([1], [2]), ([1, 1], [1])])
@pytest.mark.parametrize("word", ["a", "bb", "ab", "cc"])
def test_a_text_is_its_own_tokens(before: list[int], after: list[int], word: str) -> None:
    target = table_target(alphabet="abc ")
    target.tokenizer = Bracketed("abc ", before, after)
    plain = tuple(Letters("abc ").encode(word))
    assert resolve_sampling(Sampling(bad_words=(word,)), target).bad_words == (plain, (3, *plain))


def test_a_form_that_cannot_be_written_is_left_out() -> None:
    settings = resolve_sampling(Sampling(bad_words=("ab", (2, 0), (2, 0))), table_target(alphabet="abc"))
    assert settings.bad_words == ((0, 1), (2, 0))


def test_texts_need_a_tokenizer_and_token_ids_none() -> None:
    target = table_target(alphabet="abc")
    target.tokenizer = None
    assert resolve_sampling(Sampling(bad_words=((2, 0),)), target).bad_words == ((2, 0),)
    with pytest.raises(BuildError, match=r"sampling.bad_words: the target has no tokenizer to find texts with"):
        resolve_sampling(Sampling(bad_words=("ab",)), target)


def test_a_text_without_tokens_is_refused() -> None:
    class Silent(Letters):
        def encode(self, prompt: Prompt, chat: bool | None = None) -> list[int]:
            return []

    target = table_target(alphabet="abc")
    target.tokenizer = Silent("abc")
    with pytest.raises(BuildError, match=r"sampling.bad_words: 'ab' has no tokens"):
        resolve_sampling(Sampling(bad_words=("ab",)), target)
