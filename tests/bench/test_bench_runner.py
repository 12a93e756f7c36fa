"""The sweep: who runs when, what counts, what is built how often, and what happens to those who fail."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from support.bench import BenchPlugin, Clock, all_runs, make_bench

from orthrus import BuildError, Decoder, InputError


def three(call: int) -> int:
    return 3


def test_every_round_runs_every_subject_once_and_begins_with_the_next(tmp_path: Path) -> None:
    plugin = BenchPlugin(a=three, b=three, c=three)
    bench = make_bench(tmp_path, plugin, baselines=["a", "b", "c"], warm_up=1, rounds=3)
    all_runs(bench)
    # The fourth subject, the config itself, tells no log: its turn is between c and a.
    assert plugin.log == [*"abc", *"bca", *"cab", *"abc"]


def test_rounds_in_order_are_all_the_same(tmp_path: Path) -> None:
    plugin = BenchPlugin(a=three, b=three)
    all_runs(make_bench(tmp_path, plugin, baselines=["b", "a"], warm_up=0, rounds=3, in_order=True))
    assert plugin.log == [*"ba"] * 3


def test_a_round_is_finished_before_the_next_point_begins(tmp_path: Path) -> None:
    plugin = BenchPlugin(a=three, b=three)
    runs = all_runs(
        make_bench(tmp_path, plugin, baselines=["a", "b"], warm_up=1, rounds=1, batches=(1, 2), contexts=(3, 4))
    )
    assert plugin.baselines["a"].batches == [1, 1, 2, 2, 1, 1, 2, 2]
    points = [{"batch": batch, "context": context} for context in (3, 4) for batch in (1, 2)]
    assert [(run.label, run.point) for run in runs] == [
        (label, point) for point in points for label in ("a", "b", "config")
    ]


def test_warm_up_does_not_count(tmp_path: Path) -> None:
    """What a baseline says in its n-th call tells which calls are in the figures."""
    plugin = BenchPlugin(a=lambda call: call)
    clock = Clock(itertools.repeat(1.0))
    runs = all_runs(make_bench(tmp_path, plugin, baselines=["a"], warm_up=2, rounds=3, clock=clock))
    assert runs[0].tokens_per_second is not None
    assert runs[0].tokens_per_second.values == (3.0, 4.0, 5.0)  # tokens of calls 3, 4 and 5, a second each
    assert runs[0].new_tokens == 3
    assert len(plugin.log) == 5


@pytest.mark.parametrize("against", [None, "config", "a"])
def test_ratios_are_of_the_same_round_as_the_reference(against: str | None, tmp_path: Path) -> None:
    plugin = BenchPlugin(a=lambda call: call, b=lambda call: 2 * call)
    clock = Clock(itertools.repeat(1.0))
    settings: dict[str, Any] = {"baselines": ["a", "b"], "warm_up": 1, "rounds": 3, "clock": clock}
    a, b, config = all_runs(make_bench(tmp_path, plugin, against=against, **settings))
    speeds = {run.label: run.tokens_per_second.values for run in (a, b, config) if run.tokens_per_second}
    assert (speeds["a"], speeds["b"]) == ((2.0, 3.0, 4.0), (4.0, 6.0, 8.0))
    reference = speeds[against or "a"]
    for run in (a, b, config):
        assert run.ratio is not None
        assert run.ratio.values == tuple(x / y for x, y in zip(speeds[run.label], reference, strict=True))


def test_answers_are_compared_with_those_of_the_reference(tmp_path: Path) -> None:
    plugin = BenchPlugin(a=three, b=three, c=lambda call: 2 + call % 2)
    runs = all_runs(make_bench(tmp_path, plugin, baselines=["a", "b", "c"], warm_up=0, rounds=4, batches=(2,)))
    assert [run.identical for run in runs] == [1.0, 1.0, 0.5, 0.0]  # the config's own answers are others


def test_a_target_is_built_once_for_all_who_share_it_and_at_all_points(tmp_path: Path) -> None:
    plugin = BenchPlugin(a=three)
    variants = ["lookup: drafter.name=prompt_lookup", "short: drafter.name=prompt_lookup drafter.length=2"]
    settings: dict[str, Any] = {"warm_up": 0, "rounds": 1, "batches": (1, 2), "contexts": (3, 4)}
    runs = all_runs(make_bench(tmp_path, plugin, variants=variants, baselines=["none", "a"], **settings))
    assert len(runs) == 5 * 4
    assert all(run.error is None for run in runs)
    assert len(plugin.targets) == 1


def test_a_config_with_another_cache_has_a_target_of_its_own(tmp_path: Path) -> None:
    plugin = BenchPlugin()
    variants = ["static: cache.name=static", "none: drafter.name=none"]
    runs = all_runs(make_bench(tmp_path, plugin, variants=variants, warm_up=0, rounds=1, batches=(1, 2)))
    assert [run.error for run in runs] == [None] * 6
    assert len(plugin.targets) == 2


def test_targets_that_the_next_point_does_not_need_are_let_go(tmp_path: Path) -> None:
    plugin = BenchPlugin(a=three)
    bench = make_bench(
        tmp_path,
        plugin,
        baselines=["a"],
        sweeps=["cache.slots=16,32"],
        overrides=["cache.name=static"],
        warm_up=0,
        rounds=1,
    )
    kept = [bench.subjects.target_count for _ in bench.runs()]
    assert kept == [1, 1]
    assert len(plugin.targets) == 2


def test_a_swept_key_reaches_the_parts_and_the_point(tmp_path: Path) -> None:
    plugin = BenchPlugin()
    overrides = ["drafter.name=prompt_lookup", "stop.max_new_tokens=24"]
    bench = make_bench(
        tmp_path, plugin, sweeps=["drafter.length=1,4"], overrides=overrides, baselines=["none"], contexts=(30,)
    )
    runs = all_runs(bench)
    assert [(run.label, run.point["drafter.length"]) for run in runs] == [
        ("none", 1), ("config", 1), ("none", 4), ("config", 4),
    ]  # fmt: skip
    lengths = [run.accepted_length[0] for run in runs if run.accepted_length]
    assert lengths[0] == lengths[2] == 0.0
    assert 0 < lengths[1] <= 1 < lengths[3] <= 4
    assert all(run.identical == 1.0 for run in runs)


def test_random_prompts_are_the_same_for_all_and_every_time(tmp_path: Path) -> None:
    first, second = (all_runs(make_bench(tmp_path, BenchPlugin(), rounds=1, batches=(2,), count=3)) for _ in range(2))
    assert [run.new_tokens for run in first] == [run.new_tokens for run in second]
    assert first[0].prompts == 3


def failing(error: BaseException, call: int) -> Any:
    def act(number: int) -> int:
        if number == call:
            raise error
        return 3

    return act


FAILURES: dict[str, tuple[BaseException, str]] = {
    "a sentence": (InputError("this baseline takes\nno such prompts"), "this baseline takes no such prompts"),
    "no memory": (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), "it ran out of memory"),
    "a bug": (ZeroDivisionError("division by zero"), "ZeroDivisionError: division by zero"),
}


@pytest.mark.parametrize("call", [1, 2, 3])
@pytest.mark.parametrize("name", FAILURES)
def test_one_who_fails_is_a_sentence_and_the_others_go_on(name: str, call: int, tmp_path: Path) -> None:
    error, sentence = FAILURES[name]
    plugin = BenchPlugin(bad=failing(error, call), good=three)
    settings: dict[str, Any] = {"warm_up": 1, "rounds": 2, "batches": (1, 2)}
    runs = all_runs(make_bench(tmp_path, plugin, baselines=["bad", "good"], against="good", **settings))
    assert [(run.label, run.error) for run in runs] == [
        ("bad", sentence), ("good", None), ("config", None),
        ("bad", None), ("good", None), ("config", None),  # the next point is another try
    ]  # fmt: skip
    assert runs[0].tokens_per_second is None
    assert all(len(run.tokens_per_second.values) == 2 for run in runs[1:] if run.tokens_per_second)


def test_without_its_reference_nothing_has_a_ratio(tmp_path: Path) -> None:
    plugin = BenchPlugin(bad=failing(BuildError("no"), 1))
    runs = all_runs(make_bench(tmp_path, plugin, baselines=["bad"], rounds=1))
    assert [(run.label, run.error, run.ratio, run.identical) for run in runs] == [
        ("bad", "no", None, None),
        ("config", None, None, None),
    ]


def test_one_that_cannot_be_built_does_not_take_the_others_with_it(tmp_path: Path) -> None:
    plugin = BenchPlugin()
    runs = all_runs(make_bench(tmp_path, plugin, variants=["foreign: stop.token_ids=[77]"], rounds=1))
    assert [run.error for run in runs] == [None, "stop.token_ids: 77 is no token of the target; it has 4 tokens"]


def test_a_baseline_stops_where_the_config_and_the_target_say(tmp_path: Path) -> None:
    plugin = BenchPlugin(a=three)
    bench = make_bench(tmp_path, plugin, baselines=["a"], overrides=["stop.token_ids=[2]"], rounds=1, warm_up=0)
    all_runs(bench)
    assert [(stop.max_new_tokens, stop.token_ids) for stop in plugin.baselines["a"].stops] == [(6, {2})]


@pytest.mark.parametrize(("call", "rounds"), [(1, 0), (2, 0), (3, 1), (4, 2)])
def test_ctrl_c_keeps_the_rounds_that_all_have_finished(call: int, rounds: int, tmp_path: Path) -> None:
    plugin = BenchPlugin(a=failing(KeyboardInterrupt(), call), b=three)
    bench = make_bench(tmp_path, plugin, baselines=["b", "a"], warm_up=1, rounds=5, in_order=True)
    runs_of_points = bench.runs()
    runs = next(runs_of_points)
    assert [len(run.tokens_per_second.values) for run in runs if run.tokens_per_second] == [rounds] * 3 * (rounds > 0)
    with pytest.raises(KeyboardInterrupt):
        next(runs_of_points)


def test_the_bar_comes_to_its_end_even_if_some_fail(tmp_path: Path) -> None:
    plugin = BenchPlugin(bad=failing(BuildError("no"), 1))
    steps: list[object] = []
    bench = make_bench(tmp_path, plugin, baselines=["bad"], rounds=2, batches=(1, 2), advance=steps.append)
    all_runs(bench)
    assert len(steps) == bench.plan.total == 2 * 2 * (1 + 2 + 1)


def test_without_phases_nobody_is_watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[int] = []
    steps = Decoder.steps

    def counted(self: Decoder, *arguments: Any) -> Any:
        started.append(1)
        return steps(self, *arguments)

    monkeypatch.setattr(Decoder, "steps", counted)
    for phases, times in ((True, 4), (False, 3)):
        started.clear()
        [run] = all_runs(make_bench(tmp_path, BenchPlugin(), warm_up=1, rounds=2, phases=phases))
        assert len(started) == times
        assert (run.phases is not None) == phases
