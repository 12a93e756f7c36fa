"""What the command line says of a benchmark: numbers, swept keys, variants, and the points that they make."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.program import TABLE

from orthrus import ConfigError, InputError
from orthrus.bench.arguments import read_integers, read_labelled, read_sweep
from orthrus.bench.plan import Plan, choose_reference, plan_points, plan_subjects
from orthrus.config.compose import read_overrides
from orthrus.registry.plugins import Plugins


@given(st.lists(st.integers(1, 10**6), min_size=1, unique=True))
def test_numbers_are_read_in_their_order(numbers: list[int]) -> None:
    assert read_integers("--batch", ", ".join(map(str, numbers))) == tuple(numbers)


@pytest.mark.parametrize("text", ["", "0", "-1", "1,", "1,,2", "a", "1.5", "1 2", "²", "1e3"])
def test_what_is_no_number_from_one_is_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"--batch must be whole numbers from 1 to 10000000, "):
        read_integers("--batch", text)


def test_a_number_given_twice_is_refused() -> None:
    with pytest.raises(InputError, match="--batch names 8 twice"):
        read_integers("--batch", "8,1,8")


plain = st.one_of(st.integers(-99, 99), st.booleans(), st.none(), st.text("abc,:{}[]'\"x #", max_size=6))


@given(st.lists(st.one_of(plain, st.lists(plain, max_size=3)), min_size=1, max_size=4))
def test_swept_values_are_those_of_yaml(values: list[Any]) -> None:
    texts = list(dict.fromkeys(map(json.dumps, values)))  # what is JSON is YAML
    values = list(map(json.loads, texts))
    swept = read_sweep(f"stop.key={','.join(texts)}")
    assert swept.key == "stop.key"
    assert [value for value, _ in swept.settings] == values
    assert [layer.values for _, layer in swept.settings] == [{"stop": {"key": value}} for value in values]


@pytest.mark.parametrize("text", ["drafter.block", "drafter.block=", "=1,2", "a=]", "a=[1", "a=1] [2", "a={"])
def test_a_sweep_that_is_written_otherwise_is_refused(text: str) -> None:
    with pytest.raises((InputError, ConfigError), match=r"must be written (KEY=VALUE|key=value)"):
        read_sweep(text)


def test_a_variant_is_a_label_and_overrides_as_a_shell_reads_them() -> None:
    text = """ two words :drafter.length=2  'stop.strings=["a b"]' """
    assert read_labelled("--variant", text, needed=True) == ("two words", ["drafter.length=2", 'stop.strings=["a b"]'])
    assert read_labelled("--baseline", "generate", needed=False) == ("generate", [])


@pytest.mark.parametrize("text", ["", ":", ": a=1", "name", "name:", "target.source=path:x", "x: 'a=1"])
def test_a_variant_without_label_or_overrides_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="--variant"):
        read_labelled("--variant", text, needed=True)


def test_points_are_all_combinations_and_the_configs_keys_change_slowest() -> None:
    swept = [read_sweep("drafter.length=2,4"), read_sweep("cache.name=static,dynamic")]
    points = plan_points((1, 8), (16,), swept)
    assert [tuple(point.values.values()) for point in points] == [
        (batch, 16, length, cache) for length in (2, 4) for cache in ("static", "dynamic") for batch in (1, 8)
    ]
    assert list(points[0].values) == ["batch", "context", "drafter.length", "cache.name"]
    assert list(plan_points((1,), (None,), [])[0].values) == ["batch"]


def test_a_key_swept_twice_is_refused() -> None:
    with pytest.raises(InputError, match=r"--sweep seed is given twice"):
        plan_points((1,), (None,), [read_sweep("seed=1,2"), read_sweep("seed=3")])


def config_of(variant: str, sweep: str, overrides: list[str]) -> Any:
    session = Plugins.load()
    subjects = plan_subjects([TABLE], [variant], [], session)
    points = plan_points((1,), (4,), [read_sweep(sweep)])
    return Plan(subjects, points, "x", read_overrides(overrides)).config(subjects[1], points[0], session)


def test_the_file_then_overrides_then_the_point_then_the_subjects_own() -> None:
    config = config_of("x: seed=4", "drafter.length=3", ["drafter.length=2", "drafter.max_ngram=5", "seed=1"])
    assert (config.drafter.options.length, config.drafter.options.max_ngram, config.seed) == (3, 5, 4)


def test_a_variant_with_another_drafter_is_not_troubled_by_the_swept_option() -> None:
    assert config_of("x: drafter.name=none", "drafter.length=3", []).drafter.entry.name == "none"


def test_baselines_come_first_and_labels_are_stems_unless_they_clash(tmp_path: Path) -> None:
    other = tmp_path / TABLE.name
    other.write_text(TABLE.read_text())
    session = Plugins.load()
    subjects = plan_subjects([TABLE], ["v: seed=1"], ["none", "generate"], session)
    assert [(subject.label, subject.kind) for subject in subjects] == [
        ("none", "decoder"), ("generate", "baseline"), (TABLE.stem, "decoder"), ("v", "decoder"),
    ]  # fmt: skip
    assert [subject.label for subject in plan_subjects([TABLE, other], [], [], session)] == [str(TABLE), str(other)]
    labels = [subject.label for subject in plan_subjects([TABLE], ["v: seed=1"], ["none"], session, shape="qwen3-8b")]
    assert labels == ["none", "qwen3-8b", "v"]
    two = plan_subjects([TABLE, other], [], [], session, shape="qwen3-8b")
    assert [subject.label for subject in two] == [f"{TABLE} (qwen3-8b)", f"{other} (qwen3-8b)"]
    assert choose_reference(None, subjects) == "none"
    assert choose_reference("v", subjects) == "v"


def test_the_options_of_a_baseline_are_checked(tmp_path: Path) -> None:
    session = Plugins.load()
    [baseline, _] = plan_subjects([TABLE], [], ["generate-prompt-lookup: num_tokens=4"], session)
    assert baseline.baseline is not None and baseline.baseline.options.num_tokens == 4
    with pytest.raises(InputError, match=r"--baseline generate-prompt-lookup: num_tokens: must be at least 1, not 0"):
        plan_subjects([TABLE], [], ["generate-prompt-lookup: num_tokens=0"], session)
