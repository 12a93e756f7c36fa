"""A named check of a part: run on small cases first, and reported with the rule, the value, the place, and a way back.

A check is a plain function of a factory and a case, whose docstring is the rule. It raises BrokenRuleError.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NoReturn

import torch

from orthrus.errors import BuildError, DraftError, InputError, InterfaceError, OrthrusError, reason, unknown
from orthrus.testing.reproduction import reproduction

Factory = Callable[..., Any]  # makes the part that is checked; what it is handed depends on the kind
Body = Callable[[Factory, Any], None]
ELSEWHERE = (Path(__file__).parents[1], Path(torch.__file__).parent)  # where no part is
Status = Literal["passed", "failed", "expected to fail", "did not apply"]


class ConformanceError(AssertionError):
    """Report a part that broke a rule: the rule, the value, the place, and Python that shows it again.

    raised: what was raised, and where, if the check ended before its rule could be looked at; else empty.
    """

    def __init__(self, text: str, raised: str = "") -> None:
        super().__init__(text)
        self.raised = raised


class NotApplicableError(Exception):
    """The reason why a check means nothing for a part."""


class BrokenRuleError(Exception):
    """A broken rule, raised inside a check: the value found, and where."""

    def __init__(self, value: str, place: str) -> None:
        super().__init__(value, place)
        self.value, self.place = value, place


@dataclass(frozen=True)
class Outcome:
    """The outcome of a check; reason: why it did not pass, empty if it did. raised: as ConformanceError has it."""

    check: Check
    status: Status
    reason: str = ""
    raised: str = ""


@dataclass(frozen=True)
class Check:
    """One rule of a kind of part, callable with the factory of the part that is to be checked.

    rule: what it proves, one sentence. cases: what it is tried on, smallest first. expected: why it is known to fail.
    """

    kind: str
    name: str
    rule: str
    cases: tuple[Any, ...]
    body: Body
    expected: str | None = None

    def __str__(self) -> str:
        return self.name

    def __call__(self, factory: Factory, *cases: Any) -> None:
        """Raise ConformanceError if the part breaks the rule, on these cases or on the check's own.

        What does not apply, or fails as expected, is a skip or an xfail under pytest, and an exception of its own,
        NotApplicableError, elsewhere.
        """
        __tracebackhide__ = True  # pytest shows the test and what was found, and nothing of the kit
        outcome = self.outcome(factory, *cases)
        if outcome.status == "failed":
            raise ConformanceError(outcome.reason, outcome.raised)
        if outcome.status != "passed":
            _leave(outcome)

    def outcome(self, factory: Factory, *cases: Any) -> Outcome:
        """Return what the check comes to; it raises nothing of the part's. It did not apply if no case did."""
        tried = cases or self.cases
        skipped: list[str] = []
        try:
            for case in tried:
                try:
                    self._hold(factory, case)
                except NotApplicableError as why:  # of this case: others may mean something
                    skipped.append(str(why))
        except ConformanceError as failure:
            if self.expected is not None:
                return Outcome(self, "expected to fail", self.expected)
            return Outcome(self, "failed", str(failure), failure.raised)
        if len(skipped) == len(tried):
            return Outcome(self, "did not apply", skipped[0] if skipped else "it has no cases")
        if self.expected is not None:
            passed = (
                f"{self.kind} check '{self.name}' passes, but is expected to fail ({self.expected}): expect it no more"
            )
            return Outcome(self, "failed", passed)
        return Outcome(self, "passed")

    def _hold(self, factory: Factory, case: Any) -> None:
        try:
            with torch.no_grad():
                self.body(_making(factory), case)
        except NotApplicableError:
            raise
        except BrokenRuleError as error:
            raise ConformanceError(self._text(error.value, error.place, factory, case)) from error
        except (Exception, SystemExit) as error:  # of the part, whatever it is
            value, place = raised(error), _where(error)
            brief = value if isinstance(error, DraftError | InterfaceError) else f"{value} ({place})"
            raise ConformanceError(self._text(value, place, factory, case), brief) from error

    def _text(self, value: str, place: str, factory: Factory, case: Any) -> str:
        lines = "\n".join(f"    {line}" for line in reproduction(self.kind, self.name, factory, case))
        return (
            f"{self.kind} check '{self.name}' failed\n  rule:  {self.rule}\n  value: {value}\n  place: {place}\n"
            f"  to see it again:\n{lines}"
        )


def check(kind: str, cases: Sequence[Any]) -> Callable[[Body], Check]:
    """Make a check of a function: its name is the check's, the first paragraph of its docstring the rule."""

    def decorate(body: Body) -> Check:
        rule = " ".join((body.__doc__ or "").partition("\n\n")[0].split())
        return Check(kind, getattr(body, "__name__", ""), rule, tuple(cases), body)

    return decorate


def expecting(checks: Sequence[Check], expect: Mapping[str, str] | None) -> list[Check]:
    """Return the checks, those named in `expect` as expected failures.

    Raises InputError for a name that is no check's, and for a reason that says nothing.
    """
    kind, names = checks[0].kind, [check.name for check in checks]
    if not isinstance(expect, Mapping | None):
        raise InputError(f"expect must be a mapping of names of checks to reasons, not a {type(expect).__name__}")
    for name, why in (expect or {}).items():
        if name not in names:
            raise InputError(unknown(f"{kind} check", str(name), names))
        if not isinstance(why, str) or not why.strip():
            raise InputError(f"{kind} check '{name}' is expected to fail for no reason: {why!r}, wanted a text")
    return [replace(check, expected=(expect or {}).get(check.name)) for check in checks]


def _making(factory: Factory) -> Factory:
    """Return the factory; a part that says that it cannot be made here raises NotApplicableError instead."""

    def make(*given: Any) -> Any:
        try:
            return factory(*given)
        except InterfaceError:  # of one that was made, and is wrong wherever it is
            raise
        except (BuildError, InputError) as error:
            raise NotApplicableError(str(error)) from error

    return make


def raised(error: BaseException) -> str:
    """Return what a message says of an exception of the part."""
    return str(error) if isinstance(error, OrthrusError) else f"it raised {reason(error)}"


def _where(error: BaseException) -> str:
    """Return where in the part an exception came from, or where it shows: in the loop or the kit."""
    if isinstance(error, DraftError):
        return "the loop, which checks every draft"
    if isinstance(error, InterfaceError):
        return "what it returned"
    frames = traceback.extract_tb(error.__traceback__)
    last = [frame for frame in frames if not any(home in Path(frame.filename).parents for home in ELSEWHERE)] or frames
    return f"{last[-1].name}, {Path(last[-1].filename).name}, line {last[-1].lineno}"


def _leave(outcome: Outcome) -> NoReturn:
    pytest: Any = sys.modules.get("pytest")
    if pytest and "PYTEST_CURRENT_TEST" in os.environ:
        (pytest.skip if outcome.status == "did not apply" else pytest.xfail)(outcome.reason)
    raise NotApplicableError(f"{outcome.check.kind} check '{outcome.check}' {outcome.status}: {outcome.reason}")
