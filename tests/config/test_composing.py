"""Layers over layers: later wins, sections merge, a part with a new name is a new part; and who wrote what."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orthrus.config.compose import ConfigSource, compose, read_layers, read_overrides
from orthrus.config.schema import PARTS, load_config
from orthrus.registry.plugins import Plugins


def composed(*layers: dict[str, Any]) -> dict[str, Any]:
    return compose([ConfigSource(str(index), values) for index, values in enumerate(layers)], PARTS).values


@pytest.mark.parametrize(
    ("layers", "values"),
    [
        ([{"seed": 1}, {"seed": 2}], {"seed": 2}),
        (
            [{"stop": {"strings": ["a"], "max_new_tokens": 1}}, {"stop": {"strings": ["b"]}}],
            {"stop": {"strings": ["b"], "max_new_tokens": 1}},
        ),
        ([{"drafter": {"name": "x", "n": 1}}, {"drafter": {"n": 2}}], {"drafter": {"name": "x", "n": 2}}),
        (
            [{"drafter": {"name": "x", "n": 1}}, {"drafter": {"name": "x", "m": 2}}],
            {"drafter": {"name": "x", "n": 1, "m": 2}},
        ),
        ([{"drafter": {"name": "x", "n": 1}}, {"drafter": {"name": "y"}}], {"drafter": {"name": "y"}}),
        ([{"drafter": {"name": "x", "n": 1}}, {"drafter": {"name": "y"}}, {"drafter": {"name": "x"}}],
         {"drafter": {"name": "x"}}),
        ([{"drafter": {"n": 1}}, {"drafter": {"name": "y"}}], {"drafter": {"name": "y"}}),
        ([{"stop": {"name": "x", "n": 1}}, {"stop": {"name": "y"}}], {"stop": {"name": "y", "n": 1}}),
        ([{"drafter": {"name": "x"}}, {"drafter": None}], {"drafter": None}),
        ([{"drafter": "x"}, {"drafter": {"name": "y"}}], {"drafter": {"name": "y"}}),
        ([{"stop": {"n": {"a": 1}}}, {"stop": {"n": {"b": 2}}}], {"stop": {"n": {"b": 2}}}),
    ],
)  # fmt: skip
def test_later_wins(layers: list[dict[str, Any]], values: dict[str, Any]) -> None:
    assert composed(*layers) == values


def test_origins_are_those_of_what_is_left() -> None:
    layers = [
        ConfigSource("a", {"drafter": {"name": "x", "n": 1}, "stop": {"min": 1, "max": 2}, "seed": 0}),
        ConfigSource("b", {"drafter": {"name": "y"}, "stop": {"max": 3}}),
    ]
    result = compose(layers, PARTS, main="run.yaml")
    keys = ["drafter", "drafter.name", "drafter.n", "stop.min", "stop.max", "seed", "sampling", "sampling.temperature"]
    assert [result.origin(key) for key in keys] == ["b", "b", "b", "a", "b", "a", "run.yaml", "run.yaml"]


def write(folder: Path, name: str, text: str) -> Path:
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


def test_files_used_files_arguments_and_overrides_in_this_order(tmp_path: Path) -> None:
    write(tmp_path, "first.yaml", "{seed: 1, stop: {max_new_tokens: 1, min_new_tokens: 1}, sampling: {temperature: 0}}")
    write(tmp_path, "second.yaml", "{seed: 2, stop: {max_new_tokens: 2, strings: [second]}}")
    main = write(tmp_path, "run.yaml", "{use: [first.yaml, second.yaml], seed: 3, stop: {max_new_tokens: 3}}")
    layers = [ConfigSource("argument", {"stop": {"max_new_tokens": 4}}), read_overrides(["stop.max_new_tokens=5"])]
    for count, (seed, most) in enumerate([(3, 3), (3, 4), (3, 5)]):
        config = load_config(main, layers[:count], Plugins.load(), missing_ok=PARTS)
        assert (config.seed, config.stop.max_new_tokens) == (seed, most)
        assert (config.stop.min_new_tokens, config.stop.strings) == (1, ("second",))


@pytest.mark.parametrize("how", ["file", "override", "argument"])
def test_a_part_with_a_new_name_keeps_no_old_option(how: str, tmp_path: Path) -> None:
    write(tmp_path, "base.yaml", "drafter: {name: prompt_lookup, length: 4}")
    new = "drafter: {name: none}" if how == "file" else ""
    main = write(tmp_path, "run.yaml", f"use: [base.yaml]\n{new}")
    layers = {
        "file": [],
        "override": [read_overrides(["drafter.name=none"])],
        "argument": [ConfigSource("argument", {"drafter": {"name": "none"}})],
    }
    config = load_config(main, layers[how], Plugins.load(), missing_ok=PARTS)
    assert config.drafter is not None
    assert (config.drafter.entry.name, config.drafter.options) == ("none", type(config.drafter.options)())


def test_a_part_with_the_same_name_keeps_its_options(tmp_path: Path) -> None:
    write(tmp_path, "base.yaml", "drafter: {name: prompt_lookup, length: 4, max_ngram: 5}")
    main = write(tmp_path, "run.yaml", "{use: [base.yaml], drafter: {name: prompt_lookup, length: 6}}")
    config = load_config(main, [read_overrides(["drafter.max_ngram=7"])], Plugins.load(), missing_ok=PARTS)
    assert config.drafter is not None
    assert (config.drafter.options.length, config.drafter.options.max_ngram) == (6, 7)


KEYS = st.sampled_from(["target", "drafter", "stop", "seed", "x"])
NAMES = st.sampled_from(["name", "a", "b"])
SCALARS = st.none() | st.booleans() | st.integers(0, 3) | st.sampled_from(["x", "y", "${"])
SECTIONS = st.dictionaries(NAMES, SCALARS | st.lists(SCALARS, max_size=2), max_size=3)
SETTINGS = st.dictionaries(KEYS, SCALARS | SECTIONS, max_size=4)


def naive(layers: list[dict[str, Any]]) -> dict[str, Any]:
    """Compose as the documentation says it, and no more."""
    result: dict[str, Any] = {}
    for layer in layers:
        for key, value in layer.items():
            old = result.get(key)
            both = isinstance(old, dict) and isinstance(value, dict)
            renamed = both and key in PARTS and "name" in value and value["name"] != old.get("name")
            result[key] = {**old, **value} if both and not renamed else value
    return result


@given(st.lists(SETTINGS, max_size=4))
def test_composing_is_what_the_documentation_says(layers: list[dict[str, Any]]) -> None:
    before = [dict(layer) for layer in layers]
    assert composed(*layers) == naive(layers)
    assert layers == before  # nothing of the caller's is changed


@given(st.lists(SETTINGS, min_size=1, max_size=4))
def test_every_setting_has_the_origin_of_a_layer_that_wrote_it(layers: list[dict[str, Any]]) -> None:
    result = compose([ConfigSource(str(index), values) for index, values in enumerate(layers)], PARTS)
    for key, value in result.values.items():
        if not isinstance(value, dict):
            assert layers[int(result.origin(key))][key] == value
            continue
        for name, item in value.items():
            assert layers[int(result.origin(f"{key}.{name}"))][key][name] == item


@given(SETTINGS)
def test_a_file_says_what_was_written_into_it(settings: dict[str, Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = write(Path(folder), "run.yaml", json.dumps(settings))  # JSON is YAML
        layers, problems = read_layers(file)
    assert problems == []
    assert layers[0].values == settings
