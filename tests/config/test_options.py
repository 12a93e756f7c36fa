"""Options: a dataclass, the values it takes, and one sentence for each that it does not."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orthrus.options import describe, option, parse
from orthrus.registry.catalog import Entry
from orthrus.registry.plugins import Plugins
from orthrus.settings import Sampling, Stop
from orthrus.testing.profiles import fewer


@dataclass(frozen=True)
class Options:
    """One option of every type that a config can hold."""

    path: str = option(help="a text")
    count: int = option(1, minimum=0, maximum=9, help="an integer")
    share: float = option(0.5, minimum=0, help="a number")
    on: bool = option(False, help="a flag")
    mode: Literal["fast", "slow", 3] = option("fast", help="a choice")
    perhaps: int | None = option(None, minimum=2, help="an integer or nothing")
    names: tuple[str, ...] = option((), help="texts")
    ids: frozenset[int] = option(frozenset(), minimum=0, help="integers")
    sizes: list[float] = option([1.0], help="numbers")  # noqa: RUF009 - option knows how to keep a list apart
    table: dict[str, int] = option({}, help="a mapping")  # noqa: RUF009
    biases: Mapping[int, float] = option({}, help="a mapping from numbers")
    words: tuple[str | tuple[int, ...], ...] = option((), help="texts or lists of integers")
    anything: Any = option(None, help="anything")  # noqa: RUF009

    def problems(self) -> Iterator[tuple[str, str]]:
        if self.path == "forbidden":
            yield "path", "is forbidden"


def message(key: str, value: object) -> str:
    """Return what is wrong with one value, everything else being right; assert that it is one problem of that key."""
    options, problems = parse(Options, {"path": "x", key: value})
    assert options is None
    [(where, what)] = problems
    assert where == key
    return what


ACCEPTED = [
    ("count", 0, 0),
    ("count", 9, 9),
    ("share", 1, 1.0),
    ("share", 0.25, 0.25),
    ("on", True, True),
    ("mode", "slow", "slow"),
    ("mode", 3, 3),
    ("perhaps", None, None),
    ("perhaps", 2, 2),
    ("names", ["a", "${"], ("a", "${")),
    ("names", [], ()),
    ("ids", [3, 0, 3], frozenset({0, 3})),
    ("biases", {1: 2, "7": -0.5}, {1: 2.0, 7: -0.5}),
    ("words", ["a", [1, 2], []], ("a", (1, 2), ())),
    ("sizes", [1, 2.5], [1, 2.5]),
    ("table", {"a": 1}, {"a": 1}),
    ("anything", {"a": [None]}, {"a": [None]}),
]


@pytest.mark.parametrize(("key", "value", "wanted"), ACCEPTED)
def test_a_value_of_the_right_type_is_taken(key: str, value: object, wanted: object) -> None:
    options, problems = parse(Options, {"path": "x", key: value})
    assert problems == []
    assert getattr(options, key) == wanted
    assert type(getattr(options, key)) is type(wanted)


REFUSED = [
    ("path", None, "must be text, not null"),
    ("path", 7, "must be text, not 7"),
    ("path", "forbidden", "is forbidden"),
    ("count", True, "must be an integer, not true"),
    ("count", 1.0, "must be an integer, not 1.0"),
    ("count", "1", "must be an integer, not '1'"),
    ("count", -1, "must be at least 0, not -1"),
    ("count", 10, "must be at most 9, not 10"),
    ("count", [1], "must be an integer, not [1]"),
    ("share", True, "must be a number, not true"),
    ("share", "0.5", "must be a number, not '0.5'"),
    ("share", -0.1, "must be at least 0, not -0.1"),
    ("share", math.nan, "must be a number, not nan"),
    ("on", 1, "must be true or false, not 1"),
    ("on", "true", "must be true or false, not 'true'"),
    ("mode", "medium", "must be 'fast' or 'slow' or 3, not 'medium'"),
    ("mode", 3.0, "must be 'fast' or 'slow' or 3, not 3.0"),
    ("perhaps", "x", "must be an integer or null, not 'x'"),
    ("perhaps", 1, "must be at least 2, not 1"),
    ("names", "abc", "must be a list of text, not 'abc'"),
    ("names", [1], "must be a list of text, not [1]"),
    ("names", {"a": 1}, "must be a list of text, not {'a': 1}"),
    ("ids", [True], "must be a list of an integer, not [True]"),
    ("ids", [1, -2], "must be at least 0, not -2"),
    ("sizes", 1, "must be a list of a number, not 1"),
    ("table", {"a": "x"}, "must be a mapping to an integer, not {'a': 'x'}"),
    ("biases", {"x": 1}, "must be a mapping from an integer to a number, not {'x': 1}"),
    ("biases", {1: "x"}, "must be a mapping from an integer to a number, not {1: 'x'}"),
    ("biases", {1: 10**400}, "must fit into 64 bits; it is 1000"),
    ("words", "ab", "must be a list of text or a list of an integer, not 'ab'"),
    ("words", [1], "must be a list of text or a list of an integer, not [1]"),
    ("words", [["a"]], "must be a list of text or a list of an integer, not [['a']]"),
    ("table", [1], "must be a mapping to an integer, not [1]"),
    ("cuont", 1, "unknown option 'cuont' (did you mean 'count'?); known: anything, biases, count, ids, mode,"),
    (7, 1, "unknown option '7'; known: anything"),
    ("two\nlines", 1, "unknown option 'two\\nlines'; known: anything"),
]


@pytest.mark.parametrize(("key", "value", "said"), REFUSED)
def test_a_value_of_the_wrong_type_is_told(key: str, value: object, said: str) -> None:
    assert message(key, value).startswith(said)


def test_a_long_value_is_not_told_whole() -> None:
    said = message("count", "x" * 5000)
    assert said.startswith("must be an integer, not 'xxxx")
    assert said.endswith("...")
    assert len(said) < 150


@pytest.mark.parametrize(("digits", "said"), [(30, "1000000"), (400, "1000000"), (5000, "a number without end")])
@pytest.mark.parametrize("key", ["count", "share", "perhaps", "ids"])
def test_a_number_beyond_any_machine_is_told(key: str, digits: int, said: str) -> None:
    value = 10**digits
    assert message(key, [value] if key == "ids" else value).startswith(f"must fit into 64 bits; it is {said}")


def test_all_problems_are_told_at_once() -> None:
    _, problems = parse(Options, {"count": -1, "on": 7, "unknown": 1})
    assert [key for key, _ in problems] == ["unknown", "path", "count", "on"]
    assert dict(problems)["path"] == "is required: a text"


def test_defaults_are_taken_and_not_shared() -> None:
    first, two = (parse(Options, {"path": "x"})[0] for _ in range(2))
    assert first == two == Options("x")
    assert first.sizes is not two.sizes


def test_describing_tells_every_option() -> None:
    described = {described_option["name"]: described_option for described_option in describe(Options)}
    assert list(described) == [field.name for field in dataclasses.fields(Options)]
    assert described["path"] == {
        "name": "path",
        "type": "text",
        "required": True,
        "default": None,
        "help": "a text",
    }
    assert described["ids"]["default"] == []
    assert described["sizes"]["type"] == "a list of a number"
    assert list(describe(None)) == []


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3) | st.integers(), inner, max_size=3),
    max_leaves=6,
)
NAMES = st.sampled_from([field.name for field in dataclasses.fields(Options)]) | st.text(max_size=3) | st.integers()


def all_options() -> list[type]:
    schemas = [entry.load_options() for entry in Plugins.load().catalog if isinstance(entry, Entry)]
    return [Options, Stop, Sampling, *[schema for schema in schemas if schema]]


@fewer(4)
@given(st.dictionaries(NAMES, JSON, max_size=6))
def test_no_values_crash_the_parser(values: dict[Any, Any]) -> None:
    options, problems = parse(Options, values)
    assert (options is None) == bool(problems)
    assert all("\n" not in said and len(said) < 300 for _, said in problems)
    for key, value in values.items() if options else ():
        assert getattr(options, key) == (type(getattr(options, key))(value) if key in ("names", "ids") else value)


@fewer(4)
@given(st.data())
def test_no_values_crash_the_options_of_any_plugin(data: st.DataObject) -> None:
    schema = data.draw(st.sampled_from(all_options()))
    names = [field.name for field in dataclasses.fields(schema)]
    options, problems = parse(schema, data.draw(st.dictionaries(st.sampled_from(names or ["x"]), JSON, max_size=4)))
    assert (options is None) == bool(problems)
