"""`orthrus plugins`, and the commands that plugins add to the program."""

from __future__ import annotations

from importlib.metadata import entry_points, version
from typing import Any

import pytest
from support.program import InProcess
from support.site import Site

PLUGIN = """
    from dataclasses import dataclass
    from typing import Literal
    from orthrus import hookimpl, option

    @dataclass(frozen=True)
    class Options:
        path: str = option(help="where [/it] is")
        mode: Literal["fast", "slow"] = option("fast", help="how")
        words: tuple[str, ...] = option(("[end]",), help="which [bold]words")
        depth: int | None = option(None, help="how deep")

    def make(options, parts):
        raise AssertionError("listing makes nothing")

    @hookimpl
    def register_drafters(register):
        register("described", make, options=Options)
"""
BROKEN = "raise RuntimeError('no [/licence]')"
NOWHERE = """
    from orthrus import hookimpl

    @hookimpl
    def register_drafters(register):
        register("nowhere", "nowhere:make", options="nowhere:Options")
"""
COMMAND = """
    from orthrus import hookimpl

    def greet(name: str, times: int = 1):
        print(f"hello {{name}}" * times)

    def odd(name: "NoSuchType"):
        pass

    @hookimpl
    def register_commands(register):
        register({name!r}, {factory})
"""
OPTIONS = [
    {"name": "path", "type": "text", "required": True, "default": None, "help": "where [/it] is"},
    {"name": "mode", "type": "'fast' or 'slow'", "required": False, "default": "fast", "help": "how"},
    {"name": "words", "type": "a list of text", "required": False, "default": ["[end]"], "help": "which [bold]words"},
    {"name": "depth", "type": "an integer or null", "required": False, "default": None, "help": "how deep"},
]


def by_name(listing: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    return {(entry["kind"], entry["name"]): entry for entry in listing["plugins"]}


def test_the_json_tells_everything(site: Site, orthrus: InProcess) -> None:
    site.install("describing", PLUGIN, version="3.1")
    done = orthrus("plugins", "--json")
    assert (done.code, done.err) == (0, "")
    assert set(done.json()) == {"plugins", "failures", "conflicts"}
    assert by_name(done.json())["drafter", "described"] == {
        "kind": "drafter",
        "name": "described",
        "origin": "describing",
        "version": "3.1",
        "options": OPTIONS,
        "problem": None,
    }
    assert done.json()["failures"] == [] == done.json()["conflicts"]


def test_every_built_in_plugin_is_listed_and_whole(orthrus: InProcess) -> None:
    done = orthrus("plugins", "--json", "--strict")
    assert done.code == 0
    entries = done.json()["plugins"]
    points = {point.name for point in entry_points(group="orthrus.plugins") if point.dist.name == "orthrus-decoding"}
    assert {entry["origin"] for entry in entries} == points
    assert {entry["version"] for entry in entries} == {version("orthrus-decoding")}
    assert [entry for entry in entries if entry["problem"]] == []
    assert all(option["help"] for entry in entries for option in entry["options"])


def test_the_text_tells_the_same(site: Site, orthrus: InProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "20")  # nothing is cut, however narrow the terminal
    site.install("describing", PLUGIN, version="3.1")
    lines = orthrus("plugins").out.splitlines()
    start = lines.index("drafter    described        describing 3.1")
    assert [line.strip() for line in lines[start + 1 : start + 5]] == [
        "path (text; required): where [/it] is",
        "mode ('fast' or 'slow'; default 'fast'): how",
        "words (a list of text; default ['[end]']): which [bold]words",
        "depth (an integer or null; default null): how deep",
    ]


def test_failures_conflicts_and_problems_are_listed(site: Site, orthrus: InProcess) -> None:
    site.install("broken", BROKEN, version="0.1")
    site.install("describing", PLUGIN)
    site.install("describing_too", PLUGIN)
    site.install("leading_nowhere", NOWHERE)
    listing = orthrus("plugins", "--json").json()
    assert listing["failures"] == [{"origin": "broken", "version": "0.1", "reason": "RuntimeError: no [/licence]"}]
    [conflict] = listing["conflicts"]
    assert conflict.startswith("drafter 'described' is registered twice, by 'describing' (1.0) and 'describing_too'")
    problem = by_name(listing)["drafter", "nowhere"]["problem"]
    assert problem.startswith("drafter 'nowhere' of plugin 'leading_nowhere' cannot be imported from 'nowhere:Options'")
    lines = [line.strip() for line in orthrus("plugins").out.splitlines()]
    assert "did not load: broken 0.1: RuntimeError: no [/licence]" in lines
    assert f"conflict: {conflict}" in lines
    assert f"problem: {problem}" in lines


@pytest.mark.parametrize("code", [BROKEN, NOWHERE, PLUGIN])
@pytest.mark.parametrize("strict", ["option", "environment"])
def test_strict_makes_anything_wrong_exit_2(
    code: str, strict: str, site: Site, orthrus: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.install("one_plugin", code)
    if code is PLUGIN:
        site.install("two_plugin", code)
    assert orthrus("plugins").code == 0
    arguments = ["--strict"] if strict == "option" else []
    if strict == "environment":
        monkeypatch.setenv("ORTHRUS_STRICT_PLUGINS", "1")
    done = orthrus("plugins", *arguments)
    assert done.code == 2
    assert "one_plugin" in done.out  # the listing is there all the same


def test_a_plugin_adds_a_command(site: Site, orthrus: InProcess) -> None:
    site.install("greeting", COMMAND.format(name="greet", factory="'greeting:greet'"))
    assert orthrus("greet", "you", "--times", "2").out == "hello youhello you\n"
    assert "greet" in orthrus("--help").out
    assert orthrus("greet", "you", "--times", "x").code == 2


@pytest.mark.parametrize(
    ("name", "factory", "why"),
    [
        ("run", "greet", "the program has one of this name"),
        ("greet", "'greeting:gone'", "AttributeError: module 'greeting' has no attribute 'gone'"),
        ("greet", "odd", "is left out: NameError: name 'NoSuchType' is not defined"),
    ],
)
def test_a_command_that_cannot_be_is_left_out_with_a_warning(
    name: str, factory: str, why: str, site: Site, orthrus: InProcess
) -> None:
    site.install("greeting", COMMAND.format(name=name, factory=factory))
    done = orthrus("--version")
    assert done.code == 0
    [warning] = done.err.splitlines()
    assert warning.startswith(f"orthrus: warning: command '{name}' of plugin 'greeting' ")
    assert why in warning
    assert "Answer prompts" in orthrus("run", "--help").out  # the own one stays


def test_a_command_that_fails_says_where(site: Site, orthrus: InProcess) -> None:
    code = COMMAND.replace('print(f"hello {{name}}" * times)', "raise KeyError(name)")
    site.install("greeting", code.format(name="greet", factory="greet"))
    error = orthrus("greet", "you").error()
    assert error.startswith("KeyError: 'you' (in greet, ")
    assert error.endswith("greeting.py, line 5; --debug shows the traceback)")
    assert "Traceback (most recent call last)" in orthrus("greet", "you", "--debug").err
