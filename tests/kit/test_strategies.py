"""The published strategies reach what they are there for: with each of them a bug that needs it is found."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from hypothesis import Phase, assume, find, given, settings
from hypothesis import strategies as st
from support.building import assert_lossless, decode_with, target_oracle
from support.sampled import ChosenDrafter, coupled_answers, decoded, random_q
from support.thorough import thorough_but
from torch import Tensor

from orthrus import Context, Draft, KVCache, Sampling, Scheduler, Stop
from orthrus.batch.request import Request, Row
from orthrus.batch.row_settings import RowSettings
from orthrus.testing import TableTarget
from orthrus.testing.doubles.drafters import HistoryDrafter, Turn
from orthrus.testing.strategies import batches, histories, prompts, samplings, stop_strings, stops, tables
from orthrus_caches.dynamic import DynamicCache
from orthrus_verifiers.coupled import Coupled

V = 4
QUICK = settings(max_examples=100, phases=[Phase.generate], deadline=None, database=None, derandomize=True)
Plant = Callable[[pytest.MonkeyPatch], None]


def check_greedy() -> None:
    """Decode tables of any order greedily, with any history of accepting and refusing, and hold it to the oracle."""

    @QUICK
    @given(
        target=tables(V, orders=(1, 2), cache=DynamicCache),
        prompts=batches(V),
        stop=stops(V, strings=1),
        history=histories(),
        batch=st.integers(1, 3),
    )
    def lossless(target: TableTarget, prompts: list[list[int]], stop: Stop, history: list[Turn], batch: int) -> None:
        oracle = target_oracle(target)
        answers = [oracle(prompt, Stop(stop.max_new_tokens)).token_ids for prompt in prompts]
        results = decode_with(target, HistoryDrafter(answers, history), prompts, stop, batch=batch)
        assert_lossless(results, [oracle(prompt, stop) for prompt in prompts])

    lossless()


def check_settings() -> None:
    """Decode tables under any settings with the coupled noise, and hold it to the oracle."""

    @QUICK
    @given(target=tables(V), prompt=prompts(V), stop=stops(V), sampling=samplings(V, (0.0, 0.7)))
    def lossless(target: TableTarget, prompt: list[int], stop: Stop, sampling: Sampling) -> None:
        assume(sampling.temperature)
        wanted = coupled_answers(target, [prompt], stop, sampling, 0, ["0"])
        drafter = ChosenDrafter(random_q(1, V), 3)
        assert decoded(target, drafter, Coupled(), [prompt], stop, sampling) == wanted

    lossless()


def with_stops(change: Callable[[Stop], Stop]) -> Plant:
    """Plant rows that end by other limits than they were told."""

    def plant(patch: pytest.MonkeyPatch) -> None:
        enqueue = Context.enqueue

        def forgetful(self: Context, request: Request) -> Row:
            return enqueue(self, dataclasses.replace(request, stop=change(request.stop)))

        patch.setattr(Context, "enqueue", forgetful)

    return plant


def without(**changes: Any) -> Plant:
    """Plant a loop that does not know a part of what it was told about stopping."""
    return with_stops(lambda stop: dataclasses.replace(stop, **changes))


a_limit_off_by_one = with_stops(lambda stop: dataclasses.replace(stop, max_new_tokens=stop.max_new_tokens + 1))


def a_stop_in_a_draft_passed_over(patch: pytest.MonkeyPatch) -> None:
    def last_only(candidates: Tensor, counts: Tensor, stop_ids: Tensor) -> Tensor:
        return counts

    patch.setattr("orthrus.batch.commit.cut_at_stop", last_only)


def rows_of_one_length(patch: pytest.MonkeyPatch) -> None:
    keep = DynamicCache.keep
    patch.setattr(DynamicCache, "keep", lambda self, lengths: keep(self, lengths.amax().expand_as(lengths)))
    place = DynamicCache.place

    def together(self: DynamicCache, slots: Tensor, extent: int, rows: Tensor | None = None) -> int:
        return place(self, slots if rows is not None else slots.amax(0).expand_as(slots), extent, rows)

    patch.setattr(DynamicCache, "place", together)


def drafts_kept_whole(patch: pytest.MonkeyPatch) -> None:
    def whole(choices: Tensor, tokens: Tensor, lengths: Tensor) -> Tensor:
        return lengths

    patch.setattr("orthrus.sampling.agreement.accept_greedy", whole)


def one_wrong_token_is_kept(patch: pytest.MonkeyPatch) -> None:
    """Go on for a token after a draft went wrong, not at its end."""

    def shortened(choices: Tensor, tokens: Tensor, lengths: Tensor) -> Tensor:
        right = (choices[:, :-1] == tokens).long().cumprod(1).sum(1) if tokens.shape[1] else lengths
        return torch.where(right >= lengths, lengths, torch.minimum(right, lengths) + (right < lengths - 2).long())

    patch.setattr("orthrus.sampling.agreement.accept_greedy", shortened)


def a_past_of_one_token(patch: pytest.MonkeyPatch) -> None:
    look_up = TableTarget.look_up
    patch.setattr(
        TableTarget,
        "look_up",
        lambda self, past: look_up(self, torch.cat([torch.zeros_like(past[..., :-1]), past[..., -1:]], dim=-1)),
    )
    logits = TableTarget.logits

    def honest(self: TableTarget, token_ids: list[int], last: int) -> Tensor:
        with pytest.MonkeyPatch.context() as inner:
            inner.setattr(TableTarget, "look_up", look_up)
            return logits(self, token_ids, last)

    patch.setattr(TableTarget, "logits", honest)


def setting_ignored(name: str) -> Plant:
    """Plant a loop that does not know one setting."""

    def plant(patch: pytest.MonkeyPatch) -> None:
        of, plain = RowSettings.of, getattr(Sampling(), name)

        def ignorant(rows: Sequence[Row], *others: Any) -> RowSettings:
            settings = [dataclasses.replace(row.sampling, **{name: plain}) for row in rows]  # type: ignore[arg-type]
            without = [dataclasses.replace(row, sampling=own) for row, own in zip(rows, settings, strict=True)]
            return of(without, *others)

        patch.setattr(RowSettings, "of", ignorant)

    return plant


SETTINGS = [one.name for one in dataclasses.fields(Sampling) if one.name != "temperature"]
BUGS: dict[str, tuple[Plant, Callable[[], None]]] = {
    "tables: a past of one token": (a_past_of_one_token, check_greedy),
    "batches: rows of one length": (rows_of_one_length, check_greedy),
    "stops: no stop tokens": (without(token_ids=frozenset()), check_greedy),
    "stops: no stop strings": (without(strings=()), check_greedy),
    "stops: no minimum": (without(min_new_tokens=0), check_greedy),
    "stops: a limit off by one": (a_limit_off_by_one, check_greedy),
    "histories: a stop in a draft passed over": (a_stop_in_a_draft_passed_over, check_greedy),
    "histories: drafts kept whole": (drafts_kept_whole, check_greedy),
    "histories: one wrong token too many": (one_wrong_token_is_kept, check_greedy),
    **{f"samplings: no {name}": (setting_ignored(name), check_settings) for name in SETTINGS},
}


@pytest.mark.parametrize(
    "check", thorough_but([check_greedy], [check_greedy, check_settings]), ids=lambda check: check.__name__
)
def test_what_is_right_passes(check: Callable[[], None]) -> None:
    check()


SOME = ["samplings: no top_p"]  # of the settings


@pytest.mark.parametrize(
    "bug", thorough_but([bug for bug in BUGS if not bug.startswith("samplings") or bug in SOME], BUGS)
)
def test_a_planted_bug_is_found(bug: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plant, check = BUGS[bug]
    plant(monkeypatch)
    with pytest.raises(AssertionError):
        check()


def test_what_is_found_can_be_read_and_is_small() -> None:
    found = find(stops(V, strings=1), lambda stop: bool(stop.token_ids) and bool(stop.strings))
    assert found == Stop(0, 0, frozenset({0}), ("a",))
    assert find(histories(), lambda history: sum(turn.right for turn in history) > 1) == [Turn(2, 0)]
    assert find(batches(V), lambda rows: len({len(row) for row in rows}) > 1) == [[0], [0, 0]]


def test_a_table_gets_a_cache_of_its_own() -> None:
    caches: list[KVCache] = []

    class Counted(DynamicCache):
        def __init__(self) -> None:
            super().__init__()
            caches.append(self)

    find(st.tuples(tables(cache=Counted), tables(cache=Counted)), lambda pair: True)
    assert len(caches) >= 2 and len({id(one) for one in caches}) == len(caches)


def test_bad_words_leave_a_token_and_strings_are_the_tables() -> None:
    @QUICK
    @given(samplings(V), stop_strings("ab"))
    def holds(sampling: Sampling, strings: tuple[str, ...]) -> None:
        assert len({word[-1] for word in sampling.bad_words}) < V
        assert set("".join(strings)) <= set("ab")

    holds()


def test_a_scripted_draft_is_what_its_turn_says() -> None:
    context = Context([[0], [1]], Stop(6), vocabulary_size=V, batch=2)
    drafter = HistoryDrafter([[1, 2, 3], [2, 2, 2, 2]], [Turn(2, 1), Turn(0, 9)])
    Scheduler(context).refill()
    draft: Draft = drafter.propose(context, None)  # type: ignore[arg-type]  # it draws nothing
    assert draft.lengths.tolist() == [3, 6]
    assert draft.tokens.tolist() == [[1, 2, 0, -1, -1, -1], [3, 3, 3, 3, 1, 1]]
