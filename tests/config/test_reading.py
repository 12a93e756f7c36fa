"""From text to plain layers: what YAML files and overrides may hold, and what is said of those that cannot be read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orthrus.config.compose import read_layers, read_overrides
from orthrus.errors import ConfigError


def write(folder: Path, text: str | bytes, name: str = "run.yaml") -> Path:
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return file


def read(file: Path) -> dict[str, Any]:
    layers, problems = read_layers(file)
    assert problems == []
    return dict(layers[-1].values)


def complaint(file: Path) -> str:
    [problem] = read_layers(file)[1]
    assert problem.origin == str(file)
    return str(problem).removeprefix(f"{file}: ")


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("", {}),
        ("# nothing but a comment\n", {}),
        ("a: {b: [1, 2.5, x, true, null]}", {"a": {"b": [1, 2.5, "x", True, None]}}),
        ("a: 1e3", {"a": 1000.0}),
        ("a: 2020-01-01", {"a": "2020-01-01"}),
        ("2: x\ntrue: y\n1.5: z", {2: "x", True: "y", 1.5: "z"}),
        ("\ufeffa: 1", {"a": 1}),
        ("a: ${b}", {"a": "${b}"}),
        ("a: '${'", {"a": "${"}),
        ("a: ['}${', '${oc.env:HOME}', '${${']", {"a": ["}${", "${oc.env:HOME}", "${${"]}),
        ("a: |\n  ${\n", {"a": "${\n"}),
        ("${x}: 1", {"${x}": 1}),
        ("a: ???", {"a": "???"}),
    ],
)
def test_what_a_file_may_hold(text: str, values: dict[Any, Any], tmp_path: Path) -> None:
    assert read(write(tmp_path, text)) == values


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\na: 2", "is not valid YAML: found duplicate key a (line 2, column 1)"),
        ("a: {b: 1, b: 2}", "is not valid YAML: found duplicate key b (line 1, column 11)"),
        ("a: [1", "is not valid YAML: did not find expected ',' or ']' (line 2, column 1)"),
        ("a: !!python/object:os.system x", "is not valid YAML: could not determine a constructor for the tag"),
        ("a: &x [*x]", "is not valid YAML: YAML recursive aliases are not supported. (line 1, column 4)"),
        ("null: 1", "is not valid YAML: Incompatible key type 'NoneType'"),
        ("a: " + "1" * 5000, "is not valid YAML: Exceeds the limit (4300 digits) for integer string conversion"),
        ("a: " + "[" * 2000 + "]" * 2000, "is not valid YAML: it is nested too deep"),
        ("a: \x01", "is not valid YAML: unacceptable character #x0001: control characters are not allowed"),
        ("a: 1\n---\nb: 2", "is not valid YAML: but found another document (line 2, column 1)"),
        ("[1, 2]", "must be a mapping, not a list"),
        ("7", "must be a mapping, not a single value"),
        (b"a: \xe9", "is not UTF-8 text"),
        (b"\xff\xfea\x00", "is not UTF-8 text"),
    ],
)
def test_a_file_that_cannot_be_read(text: str | bytes, message: str, tmp_path: Path) -> None:
    sentence = complaint(write(tmp_path, text))
    assert sentence.startswith(message)
    assert "\n" not in sentence


def test_a_directory_is_no_file(tmp_path: Path) -> None:
    assert complaint(tmp_path) == "is a directory, not a file"


def origins(file: Path) -> list[str]:
    layers, problems = read_layers(file)
    assert problems == []
    return [Path(layer.origin).name for layer in layers]


def test_used_files_come_first_in_order_and_depth(tmp_path: Path) -> None:
    write(tmp_path, "seed: 1", "parts/deep.yaml")
    write(tmp_path, "use: [deep.yaml]", "parts/one.yaml")
    write(tmp_path, "", "parts/two.yaml")
    main = write(tmp_path, "use: [../parts/one.yaml, ../parts/two.yaml]", "recipes/run.yaml")
    assert origins(main) == ["deep.yaml", "one.yaml", "two.yaml", "run.yaml"]
    assert read_layers(main)[0][1].origin == str(tmp_path / "parts" / "one.yaml")  # and not recipes/../parts


def test_a_link_is_followed_where_dots_come_after_it(tmp_path: Path) -> None:
    write(tmp_path, "seed: 1", "far/away/base.yaml")
    write(tmp_path, "", "far/away/inner/empty.yaml")
    (tmp_path / "link").symlink_to(tmp_path / "far" / "away" / "inner")
    layers, problems = read_layers(write(tmp_path, "use: [link/../base.yaml]"))
    assert problems == []
    assert layers[0].values == {"seed": 1}


def test_a_file_may_be_used_twice_but_not_by_itself(tmp_path: Path) -> None:
    write(tmp_path, "", "base.yaml")
    write(tmp_path, "use: [base.yaml]", "one.yaml")
    assert origins(write(tmp_path, "use: [base.yaml, one.yaml]")) == ["base.yaml", "base.yaml", "one.yaml", "run.yaml"]


@pytest.mark.parametrize("length", [1, 2, 3])
def test_a_circle_is_named_where_it_closes(length: int, tmp_path: Path) -> None:
    for index in range(length):
        write(tmp_path, f"use: [{(index + 1) % length}.yaml]", f"{index}.yaml")
    [problem] = read_layers(tmp_path / "0.yaml")[1]
    assert (problem.origin, problem.key) == (str(tmp_path / f"{length - 1}.yaml"), "use")
    assert problem.message == f"'{tmp_path / '0.yaml'}' is used by itself, in a circle"


def test_a_used_file_that_is_missing_is_named_with_the_file_that_uses_it(tmp_path: Path) -> None:
    inner = write(tmp_path, "use: [gone.yaml]", "inner.yaml")
    [problem] = read_layers(write(tmp_path, "use: [inner.yaml]"))[1]
    assert str(problem) == f"{inner}: use: there is no file 'gone.yaml' (looked for '{tmp_path / 'gone.yaml'}')"


def test_a_home_directory_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    write(tmp_path, "", "home/mine.yaml")
    assert origins(write(tmp_path, "use: [~/mine.yaml]")) == ["mine.yaml", "run.yaml"]


@pytest.mark.parametrize("used", ["one.yaml", "7", "null", "[7]", "{a: b}"])
def test_use_is_a_list_of_paths(used: str, tmp_path: Path) -> None:
    assert complaint(write(tmp_path, f"use: {used}")).startswith("use: must be a list of paths, not ")


@pytest.mark.parametrize(
    ("overrides", "values"),
    [
        ([], {}),
        (["seed=3"], {"seed": 3}),
        (["a.b=1", "a.c=x"], {"a": {"b": 1, "c": "x"}}),
        (["a.b=1", "a.b=2"], {"a": {"b": 2}}),
        (["a.b=1", "a={c: 3}"], {"a": {"b": 1, "c": 3}}),
        (["a=1", "a.b=2"], {"a": {"b": 2}}),
        (["a=[1]", "a.b=2"], {"a": {"b": 2}}),
        (["a.b=2", "a=[1]"], {"a": [1]}),
        (["a="], {"a": None}),
        (["a=b=c"], {"a": "b=c"}),
        (["a=x", "a=???"], {"a": "???"}),
        (["a=${"], {"a": "${"}),
        (["a=['${', '}${x}']"], {"a": ["${", "}${x}"]}),
    ],
)
def test_what_overrides_may_say(overrides: list[str], values: dict[str, Any]) -> None:
    assert read_overrides(overrides).values == values


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("seed", "override: 'seed': must be written key=value"),
        ("=3", "override: '=3': must be written key=value"),
        (" =3", "override: ' =3': must be written key=value"),
        ("a..b=3", "override: 'a..b=3': must be written key=value"),
        (".a=3", "override: '.a=3': must be written key=value"),
        ("a.=3", "override: 'a.=3': must be written key=value"),
        ("a.b=[1", "override: a.b: is not valid YAML: did not find expected ',' or ']' (line 2, column 1)"),
        ("a=[${]", "override: a: is not valid YAML: did not find expected ',' or ']'"),
        ("a={b: 1, b: 2}", "override: a: is not valid YAML: found duplicate key b (line 1, column 8)"),
        ("a=" + "1" * 5000, "override: a: is not valid YAML: Exceeds the limit (4300 digits)"),
        ("a='x", "override: a: is not valid YAML: found unexpected end of stream"),
    ],
)
def test_an_override_that_cannot_be_read(override: str, message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        read_overrides(["seed=1", override])
    assert str(raised.value).startswith(message)
    assert "\n" not in str(raised.value)


def test_all_unreadable_overrides_are_told_together() -> None:
    with pytest.raises(ConfigError) as raised:
        read_overrides(["one", "two=2", "three=[", "=4"])
    assert [problem.key for problem in raised.value.problems] == ["'one'", "three", "'=4'"]
