"""What a verifier or a cache returns and may not: said in plain words by every check, and by the loop."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from support.building import table_target

from orthrus import Chance, Context, Decoder, Draft, Drafter, Scheduler, Stop, Verdict
from orthrus.errors import InterfaceError
from orthrus.testing import ConformanceError, PlainCache, PlainConsensus, named_check
from orthrus_drafters.none import NoDrafter
from orthrus_drafters.prompt_lookup import PromptLookup

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


NUMBERS: dict[str, tuple[Verdict, str]] = {
    "a mask": (
        Verdict(torch.zeros(1, 3, dtype=torch.bool), torch.zeros(1, dtype=torch.int64)),
        r"accepted has the shape \[1, 3\]; wanted \[1\], one for each row",
    ),
    "a column": (
        Verdict(torch.zeros(1, dtype=torch.int64), torch.zeros(1, 1, dtype=torch.int64)),
        r"next_tokens has the shape \[1, 1\]; wanted \[1\]",
    ),
    "too few": (
        Verdict(torch.zeros(0, dtype=torch.int64), torch.zeros(1, dtype=torch.int64)),
        r"accepted has the shape \[0\]; wanted \[1\]",
    ),
    "floats": (Verdict(torch.zeros(1), torch.zeros(1, dtype=torch.int64)), r"accepted is of torch\.float32; wanted"),
    "booleans": (
        Verdict(torch.zeros(1, dtype=torch.int64), torch.zeros(1, dtype=torch.bool)),
        r"next_tokens is of torch\.bool; wanted torch\.int64",
    ),
    "elsewhere": (
        Verdict(torch.zeros(1, dtype=torch.int64, device="meta"), torch.zeros(1, dtype=torch.int64)),
        "accepted is on meta; the rows are on cpu",
    ),
    "what is not there": (
        Verdict(torch.ones(1, dtype=torch.int64), torch.zeros(1, dtype=torch.int64)),
        "the verifier accepted 1 of the 0 draft tokens of row 0",
    ),
    "less than nothing": (
        Verdict(torch.full((1,), -5), torch.zeros(1, dtype=torch.int64)),
        "the verifier accepted -5 of the 0 draft tokens of row 0",
    ),
}


@pytest.mark.parametrize("name", NUMBERS)
def test_the_loop_takes_one_integer_a_row(name: str) -> None:
    verdict, complaint = NUMBERS[name]
    with pytest.raises(InterfaceError, match=complaint):
        Decoder.of(table_target(1), NoDrafter(), odd(verdict), Stop(4)).generate(["ab"])


@pytest.mark.parametrize("accepted", [-5, 4, 2**62])
def test_what_is_accepted_and_not_there_moves_no_row_beyond_its_text(accepted: int) -> None:
    context = Context([[1]], Stop(8), vocabulary_size=6)
    scheduler = Scheduler(context)
    scheduler.refill()
    nothing, some = torch.zeros(1, dtype=torch.int64), torch.ones(1, dtype=torch.int64)
    scheduler.commit(context.empty_draft(), Verdict(nothing, some))
    draft, seen = scheduler.check(Draft(some[:, None].expand(1, 3), 3 * some)), list[int]()
    with pytest.raises(InterfaceError, match=f"accepted {accepted} of the 3 draft tokens of row 0"):
        scheduler.commit(draft, Verdict(accepted * some, some), lambda: seen.append(int(context.lengths)))
    assert seen[0] in range(3, 7)  # what is launched ahead reads slots that are there


class Raving(PlainConsensus):
    """Say anything of rows that have ended."""

    def verify(self, context: Context, draft: Draft, logits: torch.Tensor, chance: Chance) -> Verdict:
        found, ended = super().verify(context, draft, logits, chance), context.room == 0
        return Verdict(found.accepted.masked_fill(ended, 99), found.next_tokens.masked_fill(ended, -1))


@pytest.mark.parametrize("drafter", [NoDrafter(), PromptLookup(1, 1, 4)])
def test_what_is_said_of_rows_that_have_ended_is_not_read(drafter: Drafter) -> None:
    prompts = ["abab", "b", "ca"]
    target, stop = table_target(1), Stop(12, token_ids=frozenset({2}))
    wanted, found = (Decoder.of(target, drafter, one, stop).generate(prompts) for one in (PlainConsensus(), Raving()))
    assert [one.token_ids for one in found] == [one.token_ids for one in wanted]
    assert len({len(one.token_ids) for one in wanted}) > 1  # some end before others


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
