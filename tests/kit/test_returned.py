"""What a verifier or a cache returns and may not: said in plain words by every check, and by the loop."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from support.building import table_target

from orthrus import Decoder, Stop, Verdict
from orthrus.errors import InterfaceError
from orthrus.testing import ConformanceError, PlainCache, PlainConsensus, named_check
from orthrus_plain.none import NoDrafter

VERDICTS: dict[str, tuple[Any, str]] = {
    "nothing": (None, "the verifier returned a NoneType, not a Verdict"),
    "a pair": ((torch.zeros(1), torch.zeros(1)), "the verifier returned a tuple, not a Verdict"),
    "lists": (Verdict([0], [0]), "the verifier returned a Verdict whose accepted is a list, not a tensor"),  # type: ignore[arg-type]
    "half of it": (
        Verdict(torch.zeros(1, dtype=torch.int64), None),  # type: ignore[arg-type]
        "the verifier returned a Verdict whose next_tokens is a NoneType, not a tensor",
    ),
}


def odd(verdict: Any) -> PlainConsensus:
    class Odd(PlainConsensus):
        def verify(self, *given: Any) -> Verdict:
            found: Verdict = verdict
            return found

    return Odd()


@pytest.mark.parametrize(
    "check",
    ["verdict_has_its_form", "rows_are_independent", "greedy_text", "long_drafts_are_kept_up_to_the_first_mistake"],
)
@pytest.mark.parametrize("name", VERDICTS)
def test_what_is_no_verdict_is_said_by_every_check(name: str, check: str) -> None:
    verdict, sentence = VERDICTS[name]
    with pytest.raises(ConformanceError) as caught:
        named_check("verifier", check)(lambda: odd(verdict))
    assert f"  value: {sentence}\n  place: what it returned\n" in str(caught.value)
    assert caught.value.raised == sentence


@pytest.mark.parametrize("name", VERDICTS)
def test_the_loop_says_it_too(name: str) -> None:
    verdict, sentence = VERDICTS[name]
    with pytest.raises(InterfaceError, match=sentence):
        Decoder.of(table_target(1), NoDrafter(), odd(verdict), Stop(4)).generate(["ab"])


class NowhereToWrite(PlainCache):
    def place(self, *given: Any, **named: Any) -> Any:
        super().place(*given, **named)


class NothingBack(PlainCache):
    def update(self, *given: Any) -> Any:
        return None


class HalfBack(PlainCache):
    def update(self, *given: Any) -> Any:
        return (super().update(*given)[0], None)


CACHES = {
    NowhereToWrite: "`place` returned a NoneType, not a number of slots",
    NothingBack: "`update` returned a NoneType, not two tensors: keys and values",
    HalfBack: "`update` returned a tuple, not two tensors: keys and values",
}


@pytest.mark.parametrize("kind", CACHES)
def test_what_a_cache_returns_is_said_in_plain_words(kind: type[PlainCache]) -> None:
    with pytest.raises(ConformanceError) as caught:
        named_check("cache", "returns_what_was_written")(kind)
    assert f"  value: {CACHES[kind]}\n" in str(caught.value)
