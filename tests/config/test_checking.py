"""A whole config against the schema and the plugins: every problem at once, each with its file and key."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from orthrus import InputError, load
from orthrus.config.compose import ConfigSource, read_overrides
from orthrus.config.schema import Config, load_config
from orthrus.errors import ConfigError
from orthrus.registry.plugins import Plugins
from orthrus.settings import Sampling

GOOD: dict[str, Any] = {
    "target": {"name": "table"},
    "cache": {"name": "dynamic"},
    "drafter": {"name": "none"},
    "verifier": {"name": "consensus"},
}


def known(kind: str) -> str:
    """Return how an error tells what exists of a kind."""
    return f"known: {', '.join(Plugins.load().catalog.names(kind))}"


def problems(source: Path | Mapping[str, Any], *overrides: str) -> list[str]:
    with pytest.raises(ConfigError) as raised:
        load_config(source, [read_overrides(overrides)], Plugins.load())
    assert str(raised.value).splitlines() == [str(problem) for problem in raised.value.problems]
    return str(raised.value).splitlines()


def checked(source: Mapping[str, Any]) -> Config:
    return load_config(source, [], Plugins.load())


def write(folder: Path, name: str, text: str) -> Path:
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


def test_all_problems_are_told_at_once_each_with_file_and_key(tmp_path: Path) -> None:
    base = write(
        tmp_path,
        "base.yaml",
        """
        target: {name: table, alphabet: 7, ordr: 2}
        cache: {name: dynamic, size: 3}
        stop: {max_new_tokens: -1, strings: [1]}
        samplin: {temperature: 0}
        """,
    )
    main = write(
        tmp_path,
        "run.yaml",
        """
        use: [base.yaml, gone.yaml]
        drafter: {name: prompt_lokup}
        stop: {token_ids: [a]}
        seed: 1.5
        """,
    )
    assert problems(main, "sampling.temprature=0", "drafter.length=3") == [
        f"{main}: use: there is no file 'gone.yaml' (looked for '{tmp_path / 'gone.yaml'}')",
        f"{base}: samplin: unknown key 'samplin' (did you mean 'sampling'?); known: answers, attention, cache,"
        " drafter, eval, fit, prompts, sampling, seed, stop, target, trace, training, use, verifier, warm_up",
        f"{base}: cache.size: unknown option 'size'; none is known",
        f"{base}: target.ordr: unknown option 'ordr' (did you mean 'order'?); known: alphabet, end, max_length,"
        " order, seed",
        f"{base}: target.alphabet: must be text, not 7",
        f"{main}: drafter.name: unknown drafter 'prompt_lokup' (did you mean 'prompt_lookup'?); {known('drafter')}",
        "override: sampling.temprature: unknown option 'temprature' (did you mean 'temperature'?); known: "
        + ", ".join(sorted(field.name for field in dataclasses.fields(Sampling))),
        f"{base}: stop.max_new_tokens: must be at least 0, not -1",
        f"{main}: stop.token_ids: must be a list of an integer, not ['a']",
        f"{base}: stop.strings: must be a list of text, not [1]",
        f"{main}: seed: must be an integer, not 1.5",
    ]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"target": None}, "target: must be a mapping with the name of a target, such as {name: ...}, not null"),
        ({"target": "table"}, "target: must be a mapping with the name of a target, such as {name: ...}, not 'table'"),
        ({"target": {}}, "target: must be a mapping with the name of a target, such as {name: ...}, not {}"),
        ({"target": {"name": 7}}, "target: must be a mapping with the name of a target, such as {name: ...}, not {'na"),
        ({"stop": None}, "stop: must be a mapping, not null"),
        ({"stop": [1]}, "stop: must be a mapping, not [1]"),
        ({"stop": {1: 2}}, "stop.1: unknown option '1'; known: max_new_tokens"),
        ({"stop": {"max_new_tokens": True}}, "stop.max_new_tokens: must be an integer, not true"),
        ({"stop": {"max_new_tokens": None}}, "stop.max_new_tokens: must be an integer, not null"),
        ({"stop": {"strings": "END"}}, "stop.strings: must be a list of text, not 'END'"),
        ({"stop": {"strings": ["a", ""]}}, "stop.strings: an empty text would end every answer at once"),
        ({"stop": {"min_new_tokens": 300}}, "stop.min_new_tokens: is 300, more than max_new_tokens, 256"),
        ({"stop": {"token_ids": [-1]}}, "stop.token_ids: must be at least 0, not -1"),
        ({"sampling": {"temperature": "warm"}}, "sampling.temperature: must be a number, not 'warm'"),
        ({"sampling": {"temperature": -1}}, "sampling.temperature: must be at least 0.0, not -1"),
        ({"seed": True}, "seed: must be an integer, not true"),
        ({"seed": "7"}, "seed: must be an integer, not '7'"),
        ({"seed": -1}, "seed: must be at least 0, not -1"),
        ({7: 1}, "7: unknown key '7'; known: answers, attention, cache"),
        ({"use": ["x.yaml"]}, "use: only files can use files"),
        ({"drafter": {"name": "prompt_lookup", "min_ngram": 9}}, "drafter.min_ngram: is 9, more than max_ngram, 3"),
        ({"drafter": {"name": "suffix", "min_match": 40}}, "drafter.min_match: is 40, more than max_match, 32"),
        ({"target": {"name": "transformers", "source": "x"}}, "attention: the config names no attention, which target"),
        ({"target": {"name": "table", "order": 8}}, "target.order: gives a table of more than 10,000,000 entries"),
        ({"sampling": {"temperature": 1}}, "sampling.temperature: must be 0 with verifier 'consensus', which decodes"),
    ],
)
def test_one_thing_wrong_is_one_problem(change: dict[Any, Any], problem: str) -> None:
    [complaint] = problems({**GOOD, **change})
    assert complaint.startswith(f"config: {problem}")


def test_a_required_option_is_told(tmp_path: Path) -> None:
    config = {**GOOD, "attention": {"name": "eager"}, "target": {"name": "transformers"}}
    [complaint] = problems(config)
    assert complaint.startswith("config: target.source: is required: a directory, a .gguf file, a hub id")


def test_a_source_without_a_plugin_is_told_without_loading_a_model() -> None:
    config = {**GOOD, "attention": {"name": "eager"}, "target": {"name": "transformers", "source": "hup:owner/name"}}
    assert problems(config) == [
        f"config: target.source: 'hup:owner/name': unknown source 'hup' (did you mean 'hub'?); {known('source')}"
    ]


def test_conflicts_are_told_with_everything_else() -> None:
    complaints = problems({**GOOD, "seed": "x"}, "sampling.temperature=0.5", "unknown=1")
    assert [": ".join(line.split(": ")[:2]) for line in complaints] == [
        "override: unknown",
        "config: seed",
        "override: sampling.temperature",
    ]


def test_what_may_stand_in_an_unreadable_file_is_not_missed(tmp_path: Path) -> None:
    parts = "target: {name: table}\nverifier: {name: consensus}\n"
    assert len(problems(write(tmp_path, "run.yaml", f"use: [parts.yaml]\n{parts}"))) == 1
    write(tmp_path, "parts.yaml", "cache: [")
    assert len(problems(tmp_path / "run.yaml")) == 1
    write(tmp_path, "parts.yaml", "cache: {name: dynamic}")
    assert problems(tmp_path / "run.yaml")[0].endswith(f"the config names no drafter; {known('drafter')}")


def test_an_empty_config_names_what_is_needed(tmp_path: Path) -> None:
    file = write(tmp_path, "empty.yaml", "")
    assert problems(file) == [
        f"{file}: target: the config names no target; {known('target')}",
        f"{file}: drafter: the config names no drafter; {known('drafter')}",
    ]


def test_a_config_that_names_no_verifier_gets_the_default_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "target: {name: table}\ncache: {name: dynamic}\ndrafter: {name: none}\n"
    file = write(tmp_path, "run.yaml", text)
    config = load_config(file, [], Plugins.load())
    assert config.verifier is not None
    assert config.verifier.entry.name == "default"
    monkeypatch.setenv("ORTHRUS_PLUGINS", "orthrus_table,orthrus_caches,orthrus_drafters")
    with pytest.raises(ConfigError, match="the config names no verifier; known: none"):
        load_config(file, [], Plugins.load())


def test_use_is_not_for_overrides(tmp_path: Path) -> None:
    file = write(tmp_path, "run.yaml", "use: []")
    assert problems(file, "use=[other.yaml]")[0] == "override: use: only files can use files"


def test_a_missing_config_file_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^there is no config file '.*gone\.yaml'$"):
        load_config(tmp_path / "gone.yaml", [], Plugins.load())


@pytest.mark.parametrize("text", ["${", "}${", "${oc.env:HOME}", "${stop}", "$${x}", "???"])
def test_interpolation_is_ordinary_text_everywhere(text: str, tmp_path: Path) -> None:
    file = write(tmp_path, "run.yaml", f"stop: {{strings: ['{text}']}}")
    kept = {"missing_ok": ["target", "drafter", "verifier"]}
    assert load_config(file, [], Plugins.load(), **kept).stop.strings == (text,)
    override = read_overrides([f"stop.strings=['{text}']"])
    assert load_config({}, [override], Plugins.load(), **kept).stop.strings == (text,)
    assert load({**GOOD, "stop": {"strings": [text]}}).stop.strings == (text,)


def test_any_mapping_will_do_and_none_is_changed() -> None:
    config = MappingProxyType({key: MappingProxyType(value) for key, value in GOOD.items()})
    assert checked(config) == checked(GOOD)
    layers = [ConfigSource("argument", {"stop": MappingProxyType({"max_new_tokens": 3})})]
    assert load_config(GOOD, layers, Plugins.load()).stop.max_new_tokens == 3
    assert GOOD["target"] == {"name": "table"}


def test_defaults_are_greedy_decoding_of_256_tokens() -> None:
    config = checked(GOOD)
    assert (config.sampling.temperature, config.stop.max_new_tokens, config.seed) == (0.0, 256, 0)
    assert (config.stop.min_new_tokens, config.stop.token_ids, config.stop.strings) == (0, frozenset(), ())


def test_parts_given_as_objects_need_no_config() -> None:
    decoder = load(GOOD)
    again = load({"drafter": {"name": "none"}}, target=decoder.target, verifier=decoder.verifier)
    assert again.generate(["abc"])[0].token_ids == decoder.generate(["abc"])[0].token_ids
