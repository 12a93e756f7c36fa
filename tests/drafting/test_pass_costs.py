"""What passes cost: measured once, read back only where it was measured; and what `auto` makes of it."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from support.building import assert_lossless, decode_with, target_oracle
from support.settings import set_rows
from support.thorough import nightly_but
from support.timed import TimedTarget, WrongDrafter, timed_target

from orthrus import Chance, Context, Sampling, Scheduler, Step, Stop, Verdict, machine
from orthrus.drafting.pass_costs import LEAST_SECONDS, MOST_ROUNDS, PassCosts, measure
from orthrus_drafters.none import NoDrafter

SIZES = (0, 1, 3, 7)
PROMPTS = [[1, 2, 3], [0], [2, 2]]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ORTHRUS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "pass-costs"


def begun(target: TimedTarget, rows: int = 1, length: int = 3, room: int = 40) -> Context:
    """Return a context with its prompts committed."""
    context = Context([[1] * length] * rows, Stop(room), vocabulary_size=target.vocabulary_size)
    target.start(context)
    scheduler = Scheduler(context)
    logits = target.prefill(context, scheduler.refill())[:, 0]
    nothing = context.lengths * 0
    target.keep(scheduler.commit(context.empty_draft(), Verdict(nothing, logits.argmax(-1))))
    return context


def costs_of(target: TimedTarget, notes: list[str] | None = None) -> PassCosts:
    return PassCosts(target, notify=(notes if notes is not None else []).append, clock=target.clock)


def test_costs_are_those_of_the_passes_and_measured_once(cache: Path) -> None:
    target, notes = timed_target(), []
    context, costs = begun(target), costs_of(target, notes)
    wanted = [0.1 + (size + 1) / 100 for size in SIZES]
    assert costs.cycles(context, SIZES) == pytest.approx(wanted)
    passes = len(target.widths)
    assert passes == len(SIZES) * (1 + 3)  # one that does not count, then rounds until two agree
    assert costs.cycles(context, SIZES) == costs.cycles(context, SIZES)
    assert costs_of(target, notes).cycles(context, SIZES) == pytest.approx(wanted)  # another process, as it were
    assert len(target.widths) == passes
    assert notes == ["measuring what passes cost on this machine (verify, 1 row; once)"]
    [file] = cache.iterdir()
    kept = json.loads(file.read_text())
    assert kept["identity"]["target"] == {"model": "timed"}
    assert kept["identity"]["threads"] >= 1 and kept["identity"]["device"]


def test_other_rows_longer_texts_and_more_sizes_are_measured_by_themselves(cache: Path) -> None:
    target = timed_target()
    costs = costs_of(target)
    for rows, length, sizes, files in [
        (1, 3, SIZES[:2], 1), (1, 900, SIZES[:2], 1), (1, 2000, SIZES[:2], 2), (3, 3, SIZES, 3), (4, 3, SIZES, 3),
        (5, 3, SIZES, 4), (1, 3, SIZES, 4),
    ]:  # fmt: skip
        context = begun(target, rows, length)
        assert len(costs.cycles(context, sizes)) == len(sizes)
        assert len(list(cache.iterdir())) == files


def test_passes_that_draw_are_measured_by_themselves(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target, drawn, own = timed_target(), [], Chance.gumbel
    monkeypatch.setattr(Chance, "gumbel", lambda *args: (drawn.append(args[2].shape), own(*args))[1])
    context, costs = begun(target), costs_of(target)
    costs.cycles(context, SIZES)
    assert not drawn
    set_rows(context, sampling=Sampling(temperature=0.5))
    costs.cycles(context, SIZES)
    assert set(drawn) == {(1, size + 1) for size in SIZES}
    told = [json.loads(file.read_text())["identity"].get("drawn") for file in cache.iterdir()]
    assert sorted(told, key=str) == [None, True]


def test_the_pass_of_a_drafter_counts_but_not_for_an_empty_draft(cache: Path) -> None:
    target = timed_target(lambda tokens: tokens)
    context, drafted = begun(target), []

    def draft(context: Context, size: int) -> None:
        drafted.append(size)
        target.time += 10

    costs = PassCosts(target, ("mine", draft), clock=target.clock)
    assert costs.cycles(context, SIZES) == pytest.approx([1, 12, 14, 18])
    assert set(drafted) == {1, 3, 7}
    assert len(list(cache.iterdir())) == 2


def commits_take(seconds: float, target: TimedTarget, patch: pytest.MonkeyPatch) -> None:
    own = Scheduler.commit

    def commit(*args: Any) -> Step:
        target.time += seconds
        return own(*args)

    patch.setattr(Scheduler, "commit", commit)


@pytest.mark.parametrize("stops", [set(), {0, 2}, {0, 1, 2, 3}])
def test_committing_is_part_of_every_cycle_and_leaves_the_rows_alone(
    stops: set[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    target = timed_target(lambda tokens: tokens)
    context = begun(target)
    set_rows(context, Stop(40, token_ids=frozenset(stops)))
    tensors = context.tokens.clone(), context.lengths.clone(), context.room.clone()
    values = context.cycle, context.rows[0].output[:]
    commits_take(0.5, target, monkeypatch)
    costs = PassCosts(target, ("mine", lambda context, size: None), clock=target.clock)
    assert costs.cycles(context, SIZES) == pytest.approx([1.5, 2.5, 4.5, 8.5])
    after = context.tokens, context.lengths, context.room
    assert all(torch.equal(tensor, other) for tensor, other in zip(tensors, after, strict=True))
    assert values == (context.cycle, context.rows[0].output)


def test_rows_that_are_committed_to_go_on_while_it_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    # A row that has ended is committed faster: stops and limits must not end those that stand in.
    target, steps, own = timed_target(), [], Scheduler.commit
    context = begun(target, rows=3)
    set_rows(context, Stop(2, token_ids=frozenset({0, 1, 3})))
    noise = iter(range(10_000))
    target.seconds = lambda tokens: 0.93 ** next(noise) / 1000  # as many rounds as there may be
    monkeypatch.setattr(Scheduler, "commit", lambda *args: steps.append(own(*args)) or steps[-1])
    costs_of(target).cycles(context, SIZES)
    assert len(steps) == len(SIZES) * (1 + MOST_ROUNDS)
    assert {step.finished for step in steps} == {(None, None, None)}
    assert {step.accepted for step in steps} == {(0, 0, 0)}


def test_noise_makes_no_smaller_size_dearer() -> None:
    target = timed_target(lambda tokens: {1: 3.0, 2: 9.0, 4: 4.0, 8: 2.0}[tokens])
    assert costs_of(target).cycles(begun(target), SIZES) == pytest.approx([2, 2, 2, 2])


def test_what_is_disturbed_is_measured_longer_and_if_it_never_settles_not_kept(cache: Path) -> None:
    target, notes = timed_target(), []
    noise = iter(range(10_000))
    target.seconds = lambda tokens: 0.93 ** next(noise)  # never twice alike
    assert costs_of(target, notes).cycles(begun(target), SIZES) is not None
    assert notes[1:] == ["this machine is busy: what its passes cost could not be told exactly, and is not kept"]
    assert not cache.exists()


def test_a_round_that_is_disturbed_does_not_count() -> None:
    spent = iter([9.0, 5.0, 1.0, 3.0, 1.1])
    times = [0.0]

    def act() -> None:
        times[0] += next(spent)

    assert measure({1: act}, lambda: None, lambda: times[0]) == ({1: pytest.approx(1.0)}, True)


@pytest.mark.parametrize(("seconds", "rounds"), [(100.0, 2), (0.0, 3)])
def test_patience_ends_and_no_pass_takes_no_time(seconds: float, rounds: int) -> None:
    times, calls = [0.0], []

    def act() -> None:
        calls.append(1)
        times[0] += seconds

    measured, settled = measure({1: act}, lambda: None, lambda: times[0])
    assert (len(calls) - 1, settled) == (rounds, True)
    assert measured == {1: max(seconds, LEAST_SECONDS)}
    assert rounds < MOST_ROUNDS


def test_another_machine_has_another_file(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    target = timed_target()
    context = begun(target)
    costs_of(target).cycles(context, SIZES)
    monkeypatch.setattr(machine, "device_name", lambda device: "another machine's")
    before = len(target.widths)
    costs_of(target).cycles(context, SIZES)
    assert len(target.widths) > before
    assert len(list(cache.iterdir())) == 2


def test_where_nothing_can_be_written_it_is_said_and_decoding_goes_on(tmp_path: Path, cache: Path) -> None:
    (tmp_path / "cache").write_text("a file, not a folder")
    target, notes = timed_target(), []
    assert len(costs_of(target, notes).cycles(begun(target), SIZES)) == len(SIZES)
    assert any(note.startswith(f"the costs of passes cannot be kept in '{cache}' (") for note in notes)


class Silent(TimedTarget):
    pass_identity = None  # type: ignore[assignment]  # as if there were none


def test_a_target_that_does_not_say_who_it_is_is_measured_in_every_process(cache: Path) -> None:
    target = timed_target()
    target.__class__ = Silent
    context = begun(target)
    for _ in range(2):
        before = len(target.widths)
        costs_of(target).cycles(context, SIZES)
        assert len(target.widths) > before
    assert not cache.exists()


COSTS: dict[str, tuple[Callable[[int], float], Callable[[int], float] | None, float]] = {
    "free passes": (lambda tokens: 1 + tokens / 100, None, 0.0),
    "a pass to draft": (lambda tokens: 1 + tokens / 100, lambda tokens: 1.0, 0.0),
    "a pass to draft, and commits": (lambda tokens: 1 + tokens / 100, lambda tokens: 1.0, 0.5),
    "two cores": (lambda tokens: 53 + 4 * tokens, lambda tokens: 53 + 4 * tokens, 0.0),
}


CASES = list(itertools.product((1, 3), COSTS))
EVERY_RUN = [(3, "a pass to draft, and commits")]


@pytest.mark.parametrize(
    ("rows", "name"),
    nightly_but(EVERY_RUN, CASES, thorough=[(1, "free passes"), (1, "a pass to draft"), (3, "two cores")]),
)
def test_with_a_drafter_that_is_always_wrong_the_speed_is_that_of_none(
    name: str, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Interleaved, from the first prompt on, in time that passes and commits alone take: at least 0.97."""
    score, draft, commit = COSTS[name]
    target, stop = timed_target(score, seed=3), Stop(60)
    drafters = {"auto": WrongDrafter(target, draft), "none": NoDrafter()}
    spent = dict.fromkeys(drafters, 0.0)
    commits_take(commit, target, monkeypatch)
    decode_with(target, WrongDrafter(target, draft), PROMPTS, stop, batch=rows)  # measures, and keeps it
    for _ in range(12):
        answers = [target_oracle(target)(prompt, stop) for prompt in PROMPTS]
        for kind, drafter in drafters.items():
            began = target.time
            assert_lossless(decode_with(target, drafter, PROMPTS, stop, batch=rows), answers)
            spent[kind] += target.time - began
    assert spent["none"] / spent["auto"] >= 0.97
    assert spent["none"] < spent["auto"]  # it did try


def test_what_was_chosen_is_reported() -> None:
    target = timed_target()
    drafter = WrongDrafter(target)
    assert drafter.auto.report() == {"drafts": ""}
    decode_with(target, drafter, PROMPTS, Stop(60))
    shares = [part.split(":") for part in drafter.auto.report()["drafts"].split()]
    assert shares[0][0] == "0" and int(shares[0][1].rstrip("%")) > 80
    assert {int(size) for size, _ in shares} <= {0, 1, 3, 7, 15}
