"""How a factory is told: Python that makes it again, or a comment that says what it was."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest

from orthrus.testing.origin import origin_of

LENGTH = 5


class Made:
    """Remember what it was made with."""

    def __init__(self, *given: object, **named: object) -> None:
        self.given = (given, named)

    @classmethod
    def of(cls, target: object) -> Made:
        return cls(target, "of")

    class Inner:
        def __init__(self, target: object) -> None:
            self.given = (target, "inner")


def plain(target: object) -> Made:
    return Made(target)


def closure(length: int, kind: type) -> Callable[[object], Any]:
    def twice(number: int) -> int:
        return number if number > length else twice(2 * number)  # of itself, and of what is around it

    def make(target: object) -> Any:
        lengths = [twice(length) for _ in range(2)]
        return kind(target, sum(lengths), LENGTH)

    return make


def again(length: int) -> Callable[[object], Made]:
    return lambda target, *, size=length: Made(target, size)


ONE, OTHER = lambda target: Made(target, 1), lambda target: Made(target, 2)
IN_A_LOOP = [lambda target, count=count: Made(target, count) for count in (3, 4)]
TOLD: dict[str, Callable[..., Any]] = {
    "a class": Made,
    "a function": plain,
    "a method of a class": Made.of,
    "a class in a class": Made.Inner,
    "a partial": functools.partial(Made, 3, length=LENGTH),
    "a partial of a closure": functools.partial(closure(2, Made)),
    "a closure": closure(3, Made),
    "a lambda of a module": lambda target: Made(target, LENGTH),
    "a lambda with a default": again(7),
    "the first lambda of a line": ONE,
    "the second lambda of a line": OTHER,
    "a lambda that a loop made": IN_A_LOOP[0],
    "the lambda that it made after it": IN_A_LOOP[1],
    "a lambda of several lines": lambda target: Made(
        target,
        [2 * place for place in range(3)],
    ),
}


@pytest.mark.parametrize("name", TOLD)
def test_what_is_told_makes_the_same_again(name: str) -> None:
    found: dict[str, Any] = {}
    exec("\n".join(origin_of(TOLD[name])), found)
    assert found["make"]("target").given == TOLD[name]("target").given


def test_a_class_is_told_by_its_import() -> None:
    assert origin_of(Made) == ["from test_origin import Made as make"]


def test_a_closure_is_told_with_the_values_that_it_closed_over() -> None:
    lines = origin_of(again(7))
    assert lines == [
        "from test_origin import Made",
        "length = 7",
        "make = lambda target, *, size=length: Made(target, size)",
    ]


def test_what_a_lambda_uses_and_cannot_be_told_is_a_comment() -> None:
    odd = object()
    [comment, line] = origin_of(lambda target: odd)
    assert comment == "# odd is an object of object"
    assert line == "make = lambda target: odd"


class Called:
    """Be an object that is called, of which nothing says how it came about."""

    def __call__(self, target: object) -> Made:
        return Made(target)


def local() -> type:
    class Local(Made):
        pass

    return Local


def test_what_cannot_be_told_is_said_plainly() -> None:
    unwritten = eval("lambda target: 3")
    said = "# make is what was given to the check: "
    assert origin_of(Called()) == [f"{said}an object of Called"]
    assert origin_of(unwritten) == [f"{said}<lambda>, of the module test_origin"]
    [line] = origin_of(local())
    assert line.startswith(f"{said}local.<locals>.Local, of test_origin.py, line ")
    [line] = origin_of(functools.partial(local(), 3))
    assert line == f"{said}an object of partial"
